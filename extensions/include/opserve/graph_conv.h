// graph_conv: out = a·x·weight + bias, a graph convolution over a dense adjacency matrix.
//
//   a       [n, n]
//   x       [n, f]
//   weight  [f, k]
//   bias    [k], optional
//   out     [n, k], overwritten
//
// All of one dtype and on one device; float32 and float64 on the CPU; those, float16 and bfloat16 on CUDA. n,
// f and k may be 0: an empty sum is 0, so with f = 0 or n = 0 each row is the bias. Rejected: any other rank,
// a size that disagrees, mixed dtypes or devices. The cheaper of (a·x)·weight and a·(x·weight) is computed:
// the first where f <= k. NaN and infinity propagate by IEEE arithmetic in that order; a zero in `a`
// does not hide a NaN (0·NaN is NaN).
//
// On CUDA the two products are the caller's (opserve/cuda.h): PyTorch's binding passes PyTorch's own, so that
// cuBLAS, tensor cores and the user's precision settings apply; without one they are this project's kernels.
// Half types are summed in float32; the intermediate result is rounded to the dtype.
//
// Backward, of grad [n, k]: with P = aᵀ·grad where k <= f, else with Q = grad·weightᵀ, so that each product
// with `a` is as narrow as it can be:
//
//   grad_a       grad·(x·weight)ᵀ   or  Q·xᵀ
//   grad_x       P·weightᵀ          or  aᵀ·Q
//   grad_weight  xᵀ·P               or  (a·x)ᵀ·grad
//   grad_bias    the sum of the rows of grad, always in the same order
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct GraphConvSizes {
    int64_t n;
    int64_t f;
    int64_t k;
};

// Checks the arguments, on any device; `bias` may be null. Sets `sizes`.
Status check_graph_conv(const TensorArg& a, const TensorArg& x, const TensorArg& weight,
                        const TensorArg* bias, GraphConvSizes* sizes);

struct GraphConvParams {
    DType dtype;
    GraphConvSizes sizes;
    // Rows are `*_stride` elements apart; the elements of a row are adjacent.
    const void* a;
    int64_t a_stride;
    const void* x;
    int64_t x_stride;
    const void* weight;
    int64_t weight_stride;
    const void* bias;  // contiguous, or null
    void* out;         // contiguous
    void* workspace;   // of the queried size, aligned to 64 bytes; contents need not be set
};

// The gradient of `bias` does not depend on it. Sets `sizes`.
Status check_graph_conv_backward(const TensorArg& grad, const TensorArg& a, const TensorArg& x,
                                 const TensorArg& weight, GraphConvSizes* sizes);

struct GraphConvBackwardParams {
    DType dtype;
    GraphConvSizes sizes;
    // Rows are `*_stride` elements apart; the elements of a row are adjacent.
    const void* grad;
    int64_t grad_stride;
    const void* a;
    int64_t a_stride;
    const void* x;
    int64_t x_stride;
    const void* weight;
    int64_t weight_stride;
    // Contiguous and overwritten; null if it is not needed.
    void* grad_a;
    void* grad_x;
    void* grad_weight;
    void* grad_bias;
    void* workspace;  // of the queried size, aligned to 64 bytes; contents need not be set
};

namespace cpu {
Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes);
Status graph_conv(const GraphConvParams& params, const ParallelFor& parallel_for);

// Depends on which gradients are needed: those that are not null.
Status graph_conv_backward_workspace_size(const GraphConvBackwardParams& params, int64_t* bytes);
Status graph_conv_backward(const GraphConvBackwardParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes);
Status graph_conv(const GraphConvParams& params, const Execution& execution);

// Depends on which gradients are needed: those that are not null.
Status graph_conv_backward_workspace_size(const GraphConvBackwardParams& params, int64_t* bytes);
Status graph_conv_backward(const GraphConvBackwardParams& params, const Execution& execution);
}  // namespace cuda

}  // namespace opserve
