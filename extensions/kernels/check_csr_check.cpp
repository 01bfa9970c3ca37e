#include <cinttypes>

#include "opserve/check.h"
#include "opserve/check_csr.h"

namespace opserve {

Status check_csr_arguments(const TensorArg& rowptr, const TensorArg& col, int64_t n, int64_t* nnz) {
    constexpr const char* op = "check_csr";
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "rowptr", rowptr, 1));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "col", col, 1));
    OPSERVE_RETURN_IF_ERROR(check::index(op, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "col", col, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "col", col, "rowptr", rowptr));
    int64_t rows = 0;
    if (n < 0 || !checked_add(n, 1, &rows)) {
        return Status::invalid_argument("opserve::%s: n must be at least 0 and below 2^63 - 1, got %" PRId64,
                                        op, n);
    }
    OPSERVE_RETURN_IF_ERROR(check::size(op, "rowptr", rowptr, 0, "n+1", rows));
    *nnz = col.sizes[0];
    return {};
}

}  // namespace opserve
