// graph_conv: out = a·x·weight + bias, a graph convolution over a dense adjacency matrix.
//
//   a       [n, n]
//   x       [n, f]
//   weight  [f, k]
//   bias    [k], optional
//   out     [n, k], overwritten
//
// All of one dtype and on one device; float32 and float64 on the CPU. n, f and k may be 0: an empty sum is 0,
// so with f = 0 or n = 0 each row is the bias. Rejected: any other rank, a size that disagrees, mixed dtypes
// or devices. The cheaper of (a·x)·weight and a·(x·weight) is computed: the first where f <= k. NaN and
// infinity propagate as IEEE arithmetic says in that order; a zero in `a` does not hide a NaN (0·NaN is NaN).
#pragma once

#include <cstdint>

#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

struct GraphConvSizes {
    int64_t n;
    int64_t f;
    int64_t k;
};

// Device-independent check; `bias` may be null. Sets `sizes`.
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
    void* workspace;   // as many bytes as the size query says, aligned to 64; contents need not be set
};

namespace cpu {
Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes);
Status graph_conv(const GraphConvParams& params, const ParallelFor& parallel_for);
}  // namespace cpu

}  // namespace opserve
