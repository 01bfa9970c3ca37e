#include "opserve/${name}.h"

#include "opserve/check.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";
// Elements a thread takes at a time.
constexpr int64_t kGrain = 32768;

template <class T>
void run(const ${Class}Params& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* x = static_cast<const T*>(p.x);
    T* out = static_cast<T*>(p.out);
    parallel_for(p.numel, kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = scale * x[i] * x[i];
    });
}

template <class T>
void run_backward(const ${Class}BackwardParams& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* grad = static_cast<const T*>(p.grad);
    const T* x = static_cast<const T*>(p.x);
    T* grad_x = static_cast<T*>(p.grad_x);
    parallel_for(p.numel, kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) grad_x[i] = 2 * scale * x[i] * grad[i];
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
