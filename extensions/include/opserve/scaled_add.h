// scaled_add: z = alpha * x + y, element by element.
//
//   x, y   same shape, dtype and device; any rank, empty included
//   alpha  a number, rounded to the dtype of x first
//   z      same shape, overwritten
//
// float32 and float64 on the CPU; those, float16 and bfloat16 on CUDA, where the half types are computed in
// float32 and rounded once. Rejected: differing shapes, dtypes or devices (nothing is broadcast or
// promoted). NaN and infinity propagate by IEEE arithmetic. The multiplication and the addition may be
// fused.
//
// Backward: grad_x = alpha * grad, alpha rounded to the dtype first; grad_y = grad, a copy.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

// Checks the arguments, on any device. Sets `numel`.
Status check_scaled_add(const TensorArg& x, const TensorArg& y, int64_t* numel);

struct ScaledAddParams {
    DType dtype;
    int64_t numel;
    double alpha;
    const void* x;  // contiguous
    const void* y;  // contiguous
    void* z;        // contiguous; may be x or y themselves
};

// Sets `numel`.
Status check_scaled_add_backward(const TensorArg& grad, int64_t* numel);

struct ScaledAddBackwardParams {
    DType dtype;
    int64_t numel;
    double alpha;
    const void* grad;  // contiguous
    void* grad_x;      // contiguous; may be grad itself
    void* grad_y;      // contiguous
};

namespace cpu {
Status scaled_add(const ScaledAddParams& params, const ParallelFor& parallel_for);
Status scaled_add_backward(const ScaledAddBackwardParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status scaled_add(const ScaledAddParams& params, Stream stream);
Status scaled_add_backward(const ScaledAddBackwardParams& params, Stream stream);
}  // namespace cuda

}  // namespace opserve
