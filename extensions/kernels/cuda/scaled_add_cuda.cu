#include "opserve/scaled_add.h"

#include <initializer_list>

#include "device.h"

namespace opserve::cuda {
inline namespace scaled_add_cuda {

constexpr int kThreads = 256;
// Packs of each input a thread has under way at once.
constexpr int kUnroll = 4;

// How arrays are cut that shall be accessed in packs: `head` elements until all are aligned, then `packs`
// packs, then the rest. Together, head and rest are fewer than two packs.
struct Cut {
    bool packed;
    int64_t head;
    int64_t packs;
};

template <class T>
Cut cut(int64_t numel, std::initializer_list<const void*> pointers) {
    const uintptr_t first = reinterpret_cast<uintptr_t>(*pointers.begin()) % kPackBytes;
    for (const void* pointer : pointers) {
        // Arrays that are misaligned differently never are aligned at the same element.
        if (reinterpret_cast<uintptr_t>(pointer) % kPackBytes != first) return {false, 0, numel};
    }
    const int64_t misaligned = static_cast<int64_t>(first / sizeof(T));
    const int64_t head = min_of(misaligned == 0 ? 0 : kPackWidth<T> - misaligned, numel);
    return {true, head, (numel - head) / kPackWidth<T>};
}

// The elements of head and rest, in one run of [0, loose).
__device__ __forceinline__ int64_t loose_element(int64_t i, int64_t head, int64_t packed_elements) {
    return i < head ? i : i + packed_elements;
}

template <class T, int Width>
__global__ void __launch_bounds__(kThreads)
    scaled_add_kernel(int64_t numel, int64_t head, int64_t packs, Accumulator<T> alpha, const T* x,
                      const T* y, T* z) {
    // z may be x or y: each element is read and written by the same thread, the reads first.
    constexpr int64_t tile = int64_t{kThreads} * kUnroll;
    for (int64_t first = blockIdx.x * tile; first < packs; first += gridDim.x * tile) {
        Pack<T, Width> px[kUnroll], py[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) {
                px[u] = load<Width>(x + head + pack * Width);
                py[u] = load<Width>(y + head + pack * Width);
            }
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) {
                Pack<T, Width> pz;
#pragma unroll
                for (int j = 0; j < Width; ++j) {
                    pz.at[j] = narrow<T>(alpha * widen(px[u].at[j]) + widen(py[u].at[j]));
                }
                store<Width>(z + head + pack * Width, pz);
            }
        }
    }
    const int64_t packed_elements = packs * Width;
    if (blockIdx.x == 0 && threadIdx.x < numel - packed_elements) {
        const int64_t i = loose_element(threadIdx.x, head, packed_elements);
        z[i] = narrow<T>(alpha * widen(x[i]) + widen(y[i]));
    }
}

template <class T, int Width>
__global__ void __launch_bounds__(kThreads)
    scaled_add_backward_kernel(int64_t numel, int64_t head, int64_t packs, Accumulator<T> alpha,
                               const T* grad, T* grad_x, T* grad_y) {
    constexpr int64_t tile = int64_t{kThreads} * kUnroll;
    for (int64_t first = blockIdx.x * tile; first < packs; first += gridDim.x * tile) {
        Pack<T, Width> pack_of[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) pack_of[u] = load<Width>(grad + head + pack * Width);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) {
                Pack<T, Width> scaled;
#pragma unroll
                for (int j = 0; j < Width; ++j) scaled.at[j] = narrow<T>(alpha * widen(pack_of[u].at[j]));
                store<Width>(grad_x + head + pack * Width, scaled);
                store<Width>(grad_y + head + pack * Width, pack_of[u]);
            }
        }
    }
    const int64_t packed_elements = packs * Width;
    if (blockIdx.x == 0 && threadIdx.x < numel - packed_elements) {
        const int64_t i = loose_element(threadIdx.x, head, packed_elements);
        const T one = grad[i];
        grad_x[i] = narrow<T>(alpha * widen(one));
        grad_y[i] = one;
    }
}

int64_t blocks_for(const Cut& plan) {
    // One for the loose elements, where there is not a single pack.
    return plan.packs == 0 ? 1 : divide_up(plan.packs, int64_t{kThreads} * kUnroll);
}

}  // namespace scaled_add_cuda

Status scaled_add(const ScaledAddParams& p, Stream stream) {
    constexpr const char* op = "scaled_add";
    if (p.numel == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.x, p.y, p.z));
        const Cut plan = cut<T>(p.numel, {p.x, p.y, p.z});
        auto* kernel = plan.packed ? &scaled_add_kernel<T, kPackWidth<T>> : &scaled_add_kernel<T, 1>;
        return launch(op, kernel, blocks_for(plan), kThreads, stream, p.numel, plan.head, plan.packs,
                      rounded<T>(p.alpha), static_cast<const T*>(p.x), static_cast<const T*>(p.y),
                      static_cast<T*>(p.z));
    });
}

Status scaled_add_backward(const ScaledAddBackwardParams& p, Stream stream) {
    constexpr const char* op = "_scaled_add_backward";
    if (p.numel == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.grad, p.grad_x, p.grad_y));
        const Cut plan = cut<T>(p.numel, {p.grad, p.grad_x, p.grad_y});
        auto* kernel =
            plan.packed ? &scaled_add_backward_kernel<T, kPackWidth<T>> : &scaled_add_backward_kernel<T, 1>;
        return launch(op, kernel, blocks_for(plan), kThreads, stream, p.numel, plan.head, plan.packs,
                      rounded<T>(p.alpha), static_cast<const T*>(p.grad), static_cast<T*>(p.grad_x),
                      static_cast<T*>(p.grad_y));
    });
}

}  // namespace opserve::cuda
