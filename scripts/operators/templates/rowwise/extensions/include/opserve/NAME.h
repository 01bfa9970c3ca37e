// ${name}: out[i] = scale * the sum over j of x[i, j]^2, row by row. (What make new-op wrote: begin a new
// operator by changing this contract, then the check, the kernels and the reference that keep it.)
//
//   x      [n, f]
//   scale  a number, rounded to the dtype of x first
//   out    [n], overwritten
//
// float32 and float64 on the CPU; those, float16 and bfloat16 on CUDA, where the half types are summed in
// float32 and rounded once. n and f may be 0; a row without elements is 0. Rejected: any other rank. NaN and
// infinity propagate as in IEEE arithmetic. The order of a sum depends on f alone, so that a result on one
// device is always the same.
//
// Backward, of grad [n]: grad_x[i, j] = 2 * scale * x[i, j] * grad[i].
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct ${Class}Sizes {
    int64_t n;
    int64_t f;
};

// Device-independent check; sets `sizes`.
Status check_${name}(const TensorArg& x, ${Class}Sizes* sizes);

struct ${Class}Params {
    DType dtype;
    ${Class}Sizes sizes;
    double scale;
    // Rows are `x_stride` elements apart; the elements of a row are adjacent.
    const void* x;
    int64_t x_stride;
    void* out;  // contiguous
};

// Sets `sizes`.
Status check_${name}_backward(const TensorArg& grad, const TensorArg& x, ${Class}Sizes* sizes);

struct ${Class}BackwardParams {
    DType dtype;
    ${Class}Sizes sizes;
    double scale;
    const void* grad;  // contiguous
    const void* x;     // as above
    int64_t x_stride;
    void* grad_x;  // contiguous
};

namespace cpu {
Status ${name}(const ${Class}Params& params, const ParallelFor& parallel_for);
Status ${name}_backward(const ${Class}BackwardParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status ${name}(const ${Class}Params& params, Stream stream);
Status ${name}_backward(const ${Class}BackwardParams& params, Stream stream);
}  // namespace cuda

}  // namespace opserve
