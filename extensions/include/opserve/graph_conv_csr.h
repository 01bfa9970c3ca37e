// graph_conv_csr: out = A·x·weight + bias, a graph convolution over an adjacency matrix in CSR form.
//
//   rowptr  [n + 1]  row i of A holds the entries rowptr[i] … rowptr[i+1] - 1
//   col     [nnz]    their columns, in any order; a column that repeats is summed
//   value   [nnz], optional: all ones without it
//   x       [n, f]
//   weight  [f, k]
//   bias    [k], optional
//   out     [n, k], overwritten
//
// rowptr and col are both int32 or both int64; the rest is of one dtype: float32 or float64 on the CPU,
// those, float16 or bfloat16 on CUDA; all on one device. Several graphs are one call over the block-diagonal
// matrix. n, nnz, f and k may be 0; a row without entries is the bias. Rejected: any other rank, a size that
// disagrees, mixed dtypes or devices, and on the CPU, before an index is followed: rowptr not starting at 0,
// decreasing, or not ending at nnz; col outside [0, n). The cheaper of (A·x)·weight and A·(x·weight) is
// computed: the first where f <= k. NaN and infinity propagate by IEEE arithmetic in that order; an
// entry that A does not have contributes nothing, not 0·x.
//
// On CUDA the values of rowptr and col cannot be checked without waiting for the device. There each read is
// guarded: a row whose two ends in rowptr cannot be right (they decrease, leave [0, nnz], or are not 0 at the
// start and nnz at the end), or with a column outside [0, n), becomes NaN, and nothing is read through the
// index; other rows are correct. opserve/check_csr.h finds such an index on request. The dense product is the
// caller's, as for graph_conv; the aggregation is this project's kernel, with the bias fused into it if it
// comes last. Half types are summed in float32; the intermediate result is rounded to the dtype. The result
// of a call on one device is always the same, bit for bit.
//
// Backward, of grad [n, k]: with P = Aᵀ·grad where k <= f, else with Q = grad·weightᵀ:
//
//   grad_value   (grad·(x·weight)ᵀ or Q·xᵀ) where A has an entry
//   grad_x       P·weightᵀ  or  Aᵀ·Q
//   grad_weight  xᵀ·P       or  (A·x)ᵀ·grad
//   grad_bias    the sum of the rows of grad
//
// A product with Aᵀ adds to rows in the order in which threads arrive: on CUDA grad_x (and grad_weight where
// k <= f) can differ by roundings from call to call. The rest is always the same. An entry that the guards
// refuse is left out of the sums, and its grad_value is NaN.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct GraphConvCsrSizes {
    int64_t n;
    int64_t nnz;
    int64_t f;
    int64_t k;
};

// Checks the arguments, on any device; `value` and `bias` may be null. Sets `sizes`.
Status check_graph_conv_csr(const TensorArg& rowptr, const TensorArg& col, const TensorArg* value,
                            const TensorArg& x, const TensorArg& weight, const TensorArg* bias,
                            GraphConvCsrSizes* sizes);

struct GraphConvCsrParams {
    DType dtype;
    DType index_dtype;
    GraphConvCsrSizes sizes;
    const void* rowptr;  // contiguous
    const void* col;     // contiguous
    const void* value;   // contiguous, or null
    // Rows are `*_stride` elements apart; the elements of a row are adjacent.
    const void* x;
    int64_t x_stride;
    const void* weight;
    int64_t weight_stride;
    const void* bias;  // contiguous, or null
    void* out;         // contiguous
    void* workspace;   // of the queried size, aligned to 64 bytes; contents need not be set
};

// The gradient of `bias` does not depend on it; `value` may be null. Sets `sizes`.
Status check_graph_conv_csr_backward(const TensorArg& grad, const TensorArg& rowptr, const TensorArg& col,
                                     const TensorArg* value, const TensorArg& x, const TensorArg& weight,
                                     GraphConvCsrSizes* sizes);

struct GraphConvCsrBackwardParams {
    DType dtype;
    DType index_dtype;
    GraphConvCsrSizes sizes;
    const void* rowptr;  // contiguous
    const void* col;     // contiguous
    const void* value;   // contiguous, or null
    // Rows are `*_stride` elements apart; the elements of a row are adjacent.
    const void* grad;
    int64_t grad_stride;
    const void* x;
    int64_t x_stride;
    const void* weight;
    int64_t weight_stride;
    // Contiguous and overwritten; null if it is not needed.
    void* grad_value;
    void* grad_x;
    void* grad_weight;
    void* grad_bias;
    void* workspace;  // of the queried size, aligned to 64 bytes; contents need not be set
};

namespace cpu {
Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes);
// Checks the values of rowptr and col, then computes.
Status graph_conv_csr(const GraphConvCsrParams& params, const ParallelFor& parallel_for);

// Depends on which gradients are needed: those that are not null.
Status graph_conv_csr_backward_workspace_size(const GraphConvCsrBackwardParams& params, int64_t* bytes);
// Checks the values of rowptr and col, then computes.
Status graph_conv_csr_backward(const GraphConvCsrBackwardParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes);
Status graph_conv_csr(const GraphConvCsrParams& params, const Execution& execution);

// Depends on which gradients are needed: those that are not null.
Status graph_conv_csr_backward_workspace_size(const GraphConvCsrBackwardParams& params, int64_t* bytes);
Status graph_conv_csr_backward(const GraphConvCsrBackwardParams& params, const Execution& execution);
}  // namespace cuda

}  // namespace opserve
