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
// rowptr and col are both int32 or both int64; the rest is of one dtype, float32 or float64 on the CPU; all
// on one device. Several graphs are one call over the block-diagonal matrix. n, nnz, f and k may be 0; a row
// without entries is the bias. Rejected: any other rank, a size that disagrees, mixed dtypes or devices, and
// on the CPU, before an index is followed: rowptr not starting at 0, decreasing, or not ending at nnz; col
// outside [0, n). The cheaper of (A·x)·weight and A·(x·weight) is computed: the first where f <= k. NaN and
// infinity propagate as IEEE arithmetic says in that order; an entry that A does not have contributes
// nothing, not 0·x.
#pragma once

#include <cstdint>

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

// Device-independent check; `value` and `bias` may be null. Sets `sizes`.
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
    void* workspace;   // as many bytes as the size query says, aligned to 64; contents need not be set
};

namespace cpu {
Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes);
// Checks the values of rowptr and col, then computes.
Status graph_conv_csr(const GraphConvCsrParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

}  // namespace opserve
