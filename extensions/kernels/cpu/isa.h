// The kernels for one instruction set. Each isa_*.cpp defines OPSERVE_ISA_KERNELS, OPSERVE_ISA_NAME and
// OPSERVE_VECTOR_BYTES, selects the target by a pragma, and includes this file. A pragma, not a compiler
// option: every header included before it keeps baseline code, so no inline function of the standard library
// can be linked from here into the code that runs on any processor; and each build route compiles all sources
// with the same options. Everything is in an anonymous namespace for the same reason.

namespace opserve::cpu {
namespace {

#include "vector.h"
// vector.h comes first: the kernels are written in its terms.
#include "gather.h"
#include "gemm_kernel.h"
#include "graph_conv_csr_kernel.h"
#include "scaled_add_kernel.h"
#include "warp_perspective_kernel.h"
// After the kernel whose geometry it shares.
#include "warp_perspective_backward_kernel.h"

}  // namespace

const Kernels OPSERVE_ISA_KERNELS = {
    OPSERVE_ISA_NAME,
    OPSERVE_VECTOR_BYTES,
    {scaled_add<float>, gemm_packed_elements<float>, gemm<float>, spmm<float, int32_t>, spmm<float, int64_t>,
     warp_perspective<float>, scaled_add_backward<float>, warp_perspective_backward<float>},
    {scaled_add<double>, gemm_packed_elements<double>, gemm<double>, spmm<double, int32_t>,
     spmm<double, int64_t>, warp_perspective<double>, scaled_add_backward<double>,
     warp_perspective_backward<double>},
};

}  // namespace opserve::cpu
