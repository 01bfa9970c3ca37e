// check_csr: checks that rowptr and col describe a matrix as graph_conv_csr takes it.
//
//   rowptr  [n + 1]  starts at 0, never decreases, ends at nnz
//   col     [nnz]    in [0, n)
//
// Both int32 or both int64, on one device. The first fault is the error, the same on every device: rowptr[0],
// then the first decrease, then the end, then the first column out of range. On CUDA this waits for the
// device, which graph_conv_csr never does.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

// Checks everything but the values, on any device. Sets `nnz`.
Status check_csr_arguments(const TensorArg& rowptr, const TensorArg& col, int64_t n, int64_t* nnz);

struct CheckCsrParams {
    DType index_dtype;
    int64_t n;
    int64_t nnz;
    const void* rowptr;  // contiguous
    const void* col;     // contiguous
    void* workspace;     // kCheckCsrWorkspace bytes; contents need not be set
};
inline constexpr int64_t kCheckCsrWorkspace = 16;

namespace cpu {
Status check_csr(const CheckCsrParams& params, const ParallelFor& parallel_for);
}

namespace cuda {
Status check_csr(const CheckCsrParams& params, Stream stream);
}

}  // namespace opserve
