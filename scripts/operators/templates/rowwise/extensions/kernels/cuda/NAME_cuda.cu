#include "opserve/${name}.h"

#include "device.h"

namespace opserve::cuda {
inline namespace ${name}_cuda {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

// A warp for each row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    ${name}_kernel(int64_t n, int64_t f, Accumulator<T> scale, const T* x, int64_t x_stride, T* out) {
    const int lane = threadIdx.x % kWarp;
    const int64_t step = int64_t{gridDim.x} * kWarps;
    for (int64_t i = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; i < n; i += step) {
        Accumulator<T> sum = 0;
        for (int64_t j = lane; j < f; j += kWarp) {
            const Accumulator<T> value = widen(x[i * x_stride + j]);
            sum += value * value;
        }
#pragma unroll
        for (int distance = kWarp / 2; distance > 0; distance /= 2) {
            sum += __shfl_xor_sync(kWholeWarp, sum, distance);
        }
        if (lane == 0) out[i] = narrow<T>(scale * sum);
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    ${name}_backward_kernel(int64_t n, int64_t f, Accumulator<T> scale, const T* grad, const T* x,
                            int64_t x_stride, T* grad_x) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < n * f; at += step) {
        const int64_t i = at / f, j = at % f;
        grad_x[at] = narrow<T>(2 * scale * widen(x[i * x_stride + j]) * widen(grad[i]));
    }
}

}  // namespace ${name}_cuda

Status ${name}(const ${Class}Params& p, Stream stream) {
    if (p.sizes.n == 0) return {};
    return with_floating(kOp, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kOp, p.x, p.out));
        return launch(kOp, &${name}_kernel<T>, divide_up(p.sizes.n, kWarps), kThreads, stream, p.sizes.n,
                      p.sizes.f, rounded<T>(p.scale), static_cast<const T*>(p.x), p.x_stride,
                      static_cast<T*>(p.out));
    });
}

Status ${name}_backward(const ${Class}BackwardParams& p, Stream stream) {
    // The check has seen that the product fits.
    const int64_t numel = p.sizes.n * p.sizes.f;
    if (numel == 0) return {};
    return with_floating(kBackwardOp, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kBackwardOp, p.grad, p.x, p.grad_x));
        return launch(kBackwardOp, &${name}_backward_kernel<T>, divide_up(numel, kThreads), kThreads, stream,
                      p.sizes.n, p.sizes.f, rounded<T>(p.scale), static_cast<const T*>(p.grad),
                      static_cast<const T*>(p.x), p.x_stride, static_cast<T*>(p.grad_x));
    });
}

}  // namespace opserve::cuda
