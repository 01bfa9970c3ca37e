#include "opserve/csr_fault.h"

#include <cinttypes>

namespace opserve::check {

Status csr_fault(const char* op, const CsrFault& fault, int64_t n, int64_t nnz) {
    switch (fault.kind) {
        case CsrFault::Kind::kNone:
            break;
        case CsrFault::Kind::kStart:
            return Status::invalid_argument("opserve::%s: rowptr must start at 0, got %" PRId64, op,
                                            fault.value);
        case CsrFault::Kind::kDecrease:
            return Status::invalid_argument("opserve::%s: rowptr must not decrease, got rowptr[%" PRId64
                                            "] = %" PRId64 " after %" PRId64,
                                            op, fault.at, fault.value, fault.before);
        case CsrFault::Kind::kEnd:
            return Status::invalid_argument("opserve::%s: rowptr must end at nnz = %" PRId64 ", got %" PRId64,
                                            op, nnz, fault.value);
        case CsrFault::Kind::kColumn:
            return Status::invalid_argument("opserve::%s: col must be in [0, n = %" PRId64
                                            "), got col[%" PRId64 "] = %" PRId64,
                                            op, n, fault.at, fault.value);
    }
    return {};
}

}  // namespace opserve::check
