#include "opserve/scaled_add.h"

#include <initializer_list>

#include "device.h"

namespace opserve::cuda {
inline namespace scaled_add_cuda {

constexpr int kThreads = 256;
// Packs of each input that a thread processes at once.
constexpr int kUnroll = 4;

// Whether each array can be accessed in packs. Results are aligned; an input that is not, such as a window
// into a larger tensor, is processed element by element.
bool packed(std::initializer_list<const void*> pointers) {
    for (const void* pointer : pointers) {
        if (!aligned(pointer, kPackBytes)) return false;
    }
    return true;
}

template <class T, int Width>
__global__ void __launch_bounds__(kThreads)
    scaled_add_kernel(int64_t numel, int64_t packs, Accumulator<T> alpha, const T* x, const T* y, T* z) {
    // z may be x or y: each element is read and written by the same thread, the reads first.
    constexpr int64_t tile = int64_t{kThreads} * kUnroll;
    for (int64_t first = blockIdx.x * tile; first < packs; first += gridDim.x * tile) {
        Pack<T, Width> px[kUnroll], py[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) {
                px[u] = load<Width>(x + pack * Width);
                py[u] = load<Width>(y + pack * Width);
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
                store<Width>(z + pack * Width, pz);
            }
        }
    }
    // What is left is less than a pack.
    const int64_t i = packs * Width + threadIdx.x;
    if (blockIdx.x == 0 && i < numel) {
        z[i] = narrow<T>(alpha * widen(x[i]) + widen(y[i]));
    }
}

template <class T, int Width>
__global__ void __launch_bounds__(kThreads)
    scaled_add_backward_kernel(int64_t numel, int64_t packs, Accumulator<T> alpha, const T* grad, T* grad_x,
                               T* grad_y) {
    constexpr int64_t tile = int64_t{kThreads} * kUnroll;
    for (int64_t first = blockIdx.x * tile; first < packs; first += gridDim.x * tile) {
        Pack<T, Width> pack_of[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) pack_of[u] = load<Width>(grad + pack * Width);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t pack = first + u * kThreads + threadIdx.x;
            if (pack < packs) {
                Pack<T, Width> scaled;
#pragma unroll
                for (int j = 0; j < Width; ++j) scaled.at[j] = narrow<T>(alpha * widen(pack_of[u].at[j]));
                store<Width>(grad_x + pack * Width, scaled);
                store<Width>(grad_y + pack * Width, pack_of[u]);
            }
        }
    }
    // What is left is less than a pack.
    const int64_t i = packs * Width + threadIdx.x;
    if (blockIdx.x == 0 && i < numel) {
        const T one = grad[i];
        grad_x[i] = narrow<T>(alpha * widen(one));
        grad_y[i] = one;
    }
}

int64_t blocks_for(int64_t packs) {
    // One for the rest, if there is not a single pack.
    return packs == 0 ? 1 : divide_up(packs, int64_t{kThreads} * kUnroll);
}

}  // namespace scaled_add_cuda

Status scaled_add(const ScaledAddParams& p, Stream stream) {
    constexpr const char* op = "scaled_add";
    if (p.numel == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.x, p.y, p.z));
        const bool wide = packed({p.x, p.y, p.z});
        const int64_t packs = wide ? p.numel / kPackWidth<T> : p.numel;
        auto* kernel = wide ? &scaled_add_kernel<T, kPackWidth<T>> : &scaled_add_kernel<T, 1>;
        return launch(op, kernel, blocks_for(packs), kThreads, stream, p.numel, packs, rounded<T>(p.alpha),
                      static_cast<const T*>(p.x), static_cast<const T*>(p.y), static_cast<T*>(p.z));
    });
}

Status scaled_add_backward(const ScaledAddBackwardParams& p, Stream stream) {
    constexpr const char* op = "_scaled_add_backward";
    if (p.numel == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.grad, p.grad_x, p.grad_y));
        const bool wide = packed({p.grad, p.grad_x, p.grad_y});
        const int64_t packs = wide ? p.numel / kPackWidth<T> : p.numel;
        auto* kernel =
            wide ? &scaled_add_backward_kernel<T, kPackWidth<T>> : &scaled_add_backward_kernel<T, 1>;
        return launch(op, kernel, blocks_for(packs), kThreads, stream, p.numel, packs, rounded<T>(p.alpha),
                      static_cast<const T*>(p.grad), static_cast<T*>(p.grad_x), static_cast<T*>(p.grad_y));
    });
}

}  // namespace opserve::cuda
