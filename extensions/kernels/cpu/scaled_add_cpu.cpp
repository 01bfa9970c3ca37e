#include "opserve/scaled_add.h"

#include "dispatch.h"
#include "kernels.h"

namespace opserve::cpu {
namespace {

template <class T>
Status run(const ScaledAddParams& p, const ParallelFor& parallel_for) {
    kernels().table<T>().scaled_add(p.numel, static_cast<T>(p.alpha), static_cast<const T*>(p.x),
                                    static_cast<const T*>(p.y), static_cast<T*>(p.z), parallel_for);
    return {};
}

template <class T>
Status run_backward(const ScaledAddBackwardParams& p, const ParallelFor& parallel_for) {
    kernels().table<T>().scaled_add_backward(p.numel, static_cast<T>(p.alpha), static_cast<const T*>(p.grad),
                                             static_cast<T*>(p.grad_x), static_cast<T*>(p.grad_y),
                                             parallel_for);
    return {};
}

}  // namespace

Status scaled_add(const ScaledAddParams& params, const ParallelFor& parallel_for) {
    return for_dtype("scaled_add", "x", params.dtype,
                     [&]<class T>(T) { return run<T>(params, parallel_for); });
}

Status scaled_add_backward(const ScaledAddBackwardParams& params, const ParallelFor& parallel_for) {
    return for_dtype("_scaled_add_backward", "grad", params.dtype,
                     [&]<class T>(T) { return run_backward<T>(params, parallel_for); });
}

}  // namespace opserve::cpu
