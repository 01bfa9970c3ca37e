#include "opserve/check_csr.h"

#include "opserve/csr_fault.h"

namespace opserve::cpu {
namespace {

template <class Index>
Status run(const CheckCsrParams& p) {
    const auto fault = check::find_csr_fault(static_cast<const Index*>(p.rowptr),
                                             static_cast<const Index*>(p.col), p.n, p.nnz);
    return check::csr_fault("check_csr", fault, p.n, p.nnz);
}

}  // namespace

Status check_csr(const CheckCsrParams& params, const ParallelFor&) {
    return params.index_dtype == DType::kInt32 ? run<int32_t>(params) : run<int64_t>(params);
}

}  // namespace opserve::cpu
