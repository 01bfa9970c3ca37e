#include "opserve/${name}.h"

#include "opserve/check.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";

// Rows a thread takes at a time, so that it has enough elements to be worth starting.
int64_t grain(int64_t f) { return 32768 / (f + 1) + 1; }

template <class T>
void run(const ${Class}Params& p, const ParallelFor& parallel_for) {
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
}

template <class T>
void run_backward(const ${Class}BackwardParams& p, const ParallelFor& parallel_for) {
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
}

}  // namespace

Status ${name}(const ${Class}Params& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    params.dtype == DType::kFloat32 ? run<float>(params, parallel_for) : run<double>(params, parallel_for);
    return {};
}

Status ${name}_backward(const ${Class}BackwardParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kBackwardOp, "x", params.dtype));
    params.dtype == DType::kFloat32 ? run_backward<float>(params, parallel_for)
                                    : run_backward<double>(params, parallel_for);
    return {};
}

}  // namespace opserve::cpu
