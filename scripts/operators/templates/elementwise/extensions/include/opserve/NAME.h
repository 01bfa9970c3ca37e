// ${name}: out = scale * x^2, element by element. (What make new-op wrote: begin a new operator by changing
// this contract, then the check, the kernels and the reference that keep it.)
//
//   x      any shape, empty included
//   scale  a number, rounded to the dtype of x first
//   out    the shape of x, overwritten
//
// float32 and float64 on the CPU; those, float16 and bfloat16 on CUDA, where the half types are computed in
// float32 and rounded once. NaN and infinity propagate as in IEEE arithmetic.
//
// Backward: grad_x = 2 * scale * x * grad.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

// Device-independent check; sets `numel`.
Status check_${name}(const TensorArg& x, int64_t* numel);

struct ${Class}Params {
    DType dtype;
    int64_t numel;
    double scale;
    const void* x;  // contiguous
    void* out;      // contiguous
};

// Sets `numel`.
Status check_${name}_backward(const TensorArg& grad, const TensorArg& x, int64_t* numel);

struct ${Class}BackwardParams {
    DType dtype;
    int64_t numel;
    double scale;
    const void* grad;  // contiguous
    const void* x;     // contiguous
    void* grad_x;      // contiguous
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
