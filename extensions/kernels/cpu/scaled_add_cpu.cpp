#include "opserve/scaled_add.h"

#include "kernels.h"
#include "opserve/check.h"

namespace opserve::cpu {
namespace {

template <class T>
void run(const ScaledAddParams& p, const ParallelFor& parallel_for) {
    kernels().table<T>().scaled_add(p.numel, static_cast<T>(p.alpha), static_cast<const T*>(p.x),
                                    static_cast<const T*>(p.y), static_cast<T*>(p.z), parallel_for);
}

template <class T>
void run_backward(const ScaledAddBackwardParams& p, const ParallelFor& parallel_for) {
    kernels().table<T>().scaled_add_backward(p.numel, static_cast<T>(p.alpha), static_cast<const T*>(p.grad),
                                             static_cast<T*>(p.grad_x), static_cast<T*>(p.grad_y),
                                             parallel_for);
}

}  // namespace

Status scaled_add(const ScaledAddParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype("scaled_add", "x", params.dtype));
    if (params.dtype == DType::kFloat32) {
        run<float>(params, parallel_for);
    } else {
        run<double>(params, parallel_for);
    }
    return {};
}

Status scaled_add_backward(const ScaledAddBackwardParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype("_scaled_add_backward", "grad", params.dtype));
    if (params.dtype == DType::kFloat32) {
        run_backward<float>(params, parallel_for);
    } else {
        run_backward<double>(params, parallel_for);
    }
    return {};
}

}  // namespace opserve::cpu
