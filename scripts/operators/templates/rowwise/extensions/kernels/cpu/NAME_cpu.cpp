#include "opserve/${name}.h"

#include "dispatch.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";

// Rows a thread takes at a time, so that it has enough elements to be worth starting.
int64_t grain(int64_t f) { return 32768 / (f + 1) + 1; }

template <class T>
Status run(const ${Class}Params& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* x = static_cast<const T*>(p.x);
    T* out = static_cast<T*>(p.out);
    const auto [n, f] = p.sizes;
    const int64_t width = f, stride = p.x_stride;
    parallel_for(n, grain(f), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            T sum = 0;
            for (int64_t j = 0; j < width; ++j) sum += x[i * stride + j] * x[i * stride + j];
            out[i] = scale * sum;
        }
    });
    return {};
}

template <class T>
Status run_backward(const ${Class}BackwardParams& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* grad = static_cast<const T*>(p.grad);
    const T* x = static_cast<const T*>(p.x);
    T* grad_x = static_cast<T*>(p.grad_x);
    const auto [n, f] = p.sizes;
    const int64_t width = f, stride = p.x_stride;
    // Without columns there is nothing to write, however many rows there are.
    parallel_for(f == 0 ? 0 : n, grain(f), [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            for (int64_t j = 0; j < width; ++j) grad_x[i * width + j] = 2 * scale * x[i * stride + j] * grad[i];
        }
    });
    return {};
}

}  // namespace

Status ${name}(const ${Class}Params& params, const ParallelFor& parallel_for) {
    return for_dtype(kOp, "x", params.dtype, [&]<class T>(T) { return run<T>(params, parallel_for); });
}

Status ${name}_backward(const ${Class}BackwardParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kBackwardOp, "x", params.dtype,
                     [&]<class T>(T) { return run_backward<T>(params, parallel_for); });
}

}  // namespace opserve::cpu
