#include "opserve/${name}.h"

#include "dispatch.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "${name}";
constexpr const char* kBackwardOp = "_${name}_backward";
// Elements a thread takes at a time.
constexpr int64_t kGrain = 32768;

template <class T>
Status run(const ${Class}Params& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* x = static_cast<const T*>(p.x);
    T* out = static_cast<T*>(p.out);
    parallel_for(p.numel, kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = scale * x[i] * x[i];
    });
    return {};
}

template <class T>
Status run_backward(const ${Class}BackwardParams& p, const ParallelFor& parallel_for) {
    const T scale = static_cast<T>(p.scale);
    const T* grad = static_cast<const T*>(p.grad);
    const T* x = static_cast<const T*>(p.x);
    T* grad_x = static_cast<T*>(p.grad_x);
    parallel_for(p.numel, kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) grad_x[i] = 2 * scale * x[i] * grad[i];
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
