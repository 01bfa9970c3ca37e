// The kernels for one instruction set. Each isa_*.cpp defines OPSERVE_ISA_KERNELS, OPSERVE_ISA_NAME and
// OPSERVE_VECTOR_BYTES, selects the target by a pragma, and includes this file. A pragma, not a compiler
// option: every header included before it keeps baseline code, so no inline function of the standard library
// can be linked from here into the code that runs on any processor; and each build route compiles all sources
// with the same options. Everything is in an anonymous namespace for the same reason.

namespace opserve::cpu {
namespace {

#include "vector.h"
// vector.h comes first: the kernels use its types.
#include "gather.h"
#include "gemm_kernel.h"
#include "graph_conv_csr_kernel.h"
#include "scaled_add_kernel.h"
#include "warp_perspective_kernel.h"
// After the kernel whose geometry it shares.
#include "warp_perspective_backward_kernel.h"

template <class T, class Index>
constexpr SparseTable<T, Index> sparse_table = {spmm<T, Index>, spmm_gemm<T, Index>, sddmm<T, Index>};

}  // namespace

const Kernels OPSERVE_ISA_KERNELS = {
    OPSERVE_ISA_NAME,
    OPSERVE_VECTOR_BYTES,
    {scaled_add<float>, gemm_packed_elements<float>, gemm<float>, gemm_chain<float>, column_sums<float>,
     warp_perspective<float>, scaled_add_backward<float>, warp_perspective_backward<float>,
     sparse_table<float, int32_t>, sparse_table<float, int64_t>},
    {scaled_add<double>, gemm_packed_elements<double>, gemm<double>, gemm_chain<double>, column_sums<double>,
     warp_perspective<double>, scaled_add_backward<double>, warp_perspective_backward<double>,
     sparse_table<double, int32_t>, sparse_table<double, int64_t>},
    {rowptr_decreases<int32_t>, col_outside<int32_t>},
    {rowptr_decreases<int64_t>, col_outside<int64_t>},
};

}  // namespace opserve::cpu
