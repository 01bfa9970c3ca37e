// gcn_norm: D^-1/2·(A + I)·D^-1/2, the normalisation of a graph convolution (Kipf and Welling, 2017), as
// torch_geometric.nn.conv.gcn_conv.gcn_norm defines it with add_self_loops.
//
//   rowptr      [n + 1]  row i of A holds the entries rowptr[i] … rowptr[i+1] - 1: the edges into node i
//   col         [nnz]    their columns, in any order; a column that repeats is summed
//   value       [nnz]    their weights
//   fill_value  the weight of the self-loop that a node without one gets, rounded to the dtype of value; 1 is
//               PyTorch Geometric's default, 2 its `improved`, 0 the same matrix as its add_self_loops=False
//
//   out_rowptr  [n + 1]    rowptr[i] + i
//   out_col     [nnz + n]  each row begins with its self-loop, followed by its entries in their order
//   out_value   [nnz + n]  s[i]·w·s[j] for an entry of weight w in row i and column j
//
// s = deg^-1/2, and 0 where deg is 0. deg[i] is the sum of row i, its self-loop included: the weights of the
// edges into a node. A node that has a self-loop already keeps it, and the loop that begins its row weighs 0,
// so that the sizes of the result depend on no value. Several loops of one node are summed (PyTorch Geometric
// keeps an unspecified one of them). No weight is refused: a negative degree results in NaN, and NaN and
// infinity propagate by IEEE arithmetic.
//
// rowptr and col are both int32 or both int64; value is float32 or float64 on the CPU, those, float16 or
// bfloat16 on CUDA (computed in float32 and rounded once); all on one device. n and nnz may be 0. Rejected:
// any other rank, a size that disagrees, mixed dtypes or devices, nnz + n that does not fit the dtype of
// rowptr, and on the CPU, before an index is followed: rowptr not starting at 0, decreasing, or not ending at
// nnz; col outside [0, n).
//
// On CUDA the values of rowptr and col cannot be checked without waiting for the device. There nothing is
// read through a wrong index: if rowptr is wrong anywhere, the indices of the result are -1 and its weights
// NaN throughout; an entry whose column is outside [0, n) keeps that column, and its weight is NaN.
// graph_conv_csr turns both into NaN. The result of a call on one device is always the same, bit for bit.
//
// Backward, of grad [nnz + n], the gradient of out_value. With g[e] for the element of grad that belongs to
// entry e, and loop[i] for the weight of the loop that begins row i:
//
//   slope[i]       the sum of g[e]·w[e]·s[j] over the entries of row i, of g[e]·w[e]·s[r] over those of
//                  column i (r being their row), and twice g·loop[i]·s[i] of its loop
//   grad_value[e]  g[e]·s[i]·s[j] - slope[i]·s[i]^3 / 2
//
// A degree of 0 passes no gradient on (PyTorch Geometric: NaN). On CUDA the sums over columns are made in the
// order in which threads arrive, so that grad_value can differ by roundings from call to call. Entries that
// the guards refuse are left out of the sums, and their grad_value is NaN; if rowptr is wrong, all of it is.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct GcnNormSizes {
    int64_t n;
    int64_t nnz;
    int64_t out_nnz;  // nnz + n
};

// Checks the arguments, on any device. Sets `sizes`.
Status check_gcn_norm(const TensorArg& rowptr, const TensorArg& col, const TensorArg& value,
                      GcnNormSizes* sizes);

struct GcnNormParams {
    DType dtype;
    DType index_dtype;
    GcnNormSizes sizes;
    double fill_value;
    // All contiguous.
    const void* rowptr;
    const void* col;
    const void* value;
    void* out_rowptr;
    void* out_col;
    void* out_value;
    void* workspace;  // of the queried size, aligned to 64 bytes; contents need not be set
};

// Sets `sizes`.
Status check_gcn_norm_backward(const TensorArg& grad, const TensorArg& rowptr, const TensorArg& col,
                               const TensorArg& value, GcnNormSizes* sizes);

struct GcnNormBackwardParams {
    DType dtype;
    DType index_dtype;
    GcnNormSizes sizes;
    double fill_value;
    // All contiguous.
    const void* grad;
    const void* rowptr;
    const void* col;
    const void* value;
    void* grad_value;
    void* workspace;  // of the queried size, aligned to 64 bytes; contents need not be set
};

namespace cpu {
Status gcn_norm_workspace_size(const GcnNormParams& params, int64_t* bytes);
// Checks the values of rowptr and col, then computes.
Status gcn_norm(const GcnNormParams& params, const ParallelFor& parallel_for);

Status gcn_norm_backward_workspace_size(const GcnNormBackwardParams& params, int64_t* bytes);
// Checks the values of rowptr and col, then computes.
Status gcn_norm_backward(const GcnNormBackwardParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

namespace cuda {
Status gcn_norm_workspace_size(const GcnNormParams& params, int64_t* bytes);
Status gcn_norm(const GcnNormParams& params, Stream stream);

Status gcn_norm_backward_workspace_size(const GcnNormBackwardParams& params, int64_t* bytes);
Status gcn_norm_backward(const GcnNormBackwardParams& params, Stream stream);
}  // namespace cuda

}  // namespace opserve
