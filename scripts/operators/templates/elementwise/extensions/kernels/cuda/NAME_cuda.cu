#include "opserve/${name}.h"

#include "device.h"

namespace opserve::cuda {
inline namespace ${name}_cuda {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";
constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    ${name}_kernel(int64_t numel, Accumulator<T> scale, const T* x, T* out) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < numel; i += step) {
        const Accumulator<T> value = widen(x[i]);
        out[i] = narrow<T>(scale * value * value);
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    ${name}_backward_kernel(int64_t numel, Accumulator<T> scale, const T* grad, const T* x, T* grad_x) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < numel; i += step) {
        grad_x[i] = narrow<T>(2 * scale * widen(x[i]) * widen(grad[i]));
    }
}

}  // namespace ${name}_cuda

Status ${name}(const ${Class}Params& p, Stream stream) {
    if (p.numel == 0) return {};
    return with_floating(kOp, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kOp, p.x, p.out));
        return launch(kOp, &${name}_kernel<T>, divide_up(p.numel, kThreads), kThreads, stream, p.numel,
                      rounded<T>(p.scale), static_cast<const T*>(p.x), static_cast<T*>(p.out));
    });
}

Status ${name}_backward(const ${Class}BackwardParams& p, Stream stream) {
    if (p.numel == 0) return {};
    return with_floating(kBackwardOp, p.dtype, [&]<class T>(T*) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kBackwardOp, p.grad, p.x, p.grad_x));
        return launch(kBackwardOp, &${name}_backward_kernel<T>, divide_up(p.numel, kThreads), kThreads, stream,
                      p.numel, rounded<T>(p.scale), static_cast<const T*>(p.grad),
                      static_cast<const T*>(p.x), static_cast<T*>(p.grad_x));
    });
}

}  // namespace opserve::cuda
