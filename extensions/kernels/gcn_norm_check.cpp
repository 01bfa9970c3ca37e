#include "opserve/gcn_norm.h"

#include <cinttypes>
#include <limits>

#include "opserve/check.h"

namespace opserve {
namespace {

Status check_graph(const char* op, const TensorArg& rowptr, const TensorArg& col, const TensorArg& value,
                   GcnNormSizes* sizes) {
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "rowptr", rowptr, 1));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "col", col, 1));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "value", value, 1));
    OPSERVE_RETURN_IF_ERROR(check::index(op, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "col", col, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "value", value));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "rowptr", rowptr, "value", value));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "col", col, "value", value));
    if (rowptr.sizes[0] == 0) {
        return Status::invalid_argument("opserve::%s: rowptr must have n+1 elements, 1 or more, got 0", op);
    }
    const int64_t n = rowptr.sizes[0] - 1;
    const int64_t nnz = col.sizes[0];
    OPSERVE_RETURN_IF_ERROR(check::size(op, "value", value, 0, "nnz", nnz));
    constexpr int64_t int32_max = std::numeric_limits<int32_t>::max();
    int64_t out_nnz = 0;
    const bool counted = checked_add(nnz, n, &out_nnz);
    if (!counted || (rowptr.dtype == DType::kInt32 && out_nnz > int32_max)) {
        return Status::invalid_argument("opserve::%s: nnz + n must fit in the %s of rowptr, got %" PRId64
                                        " + %" PRId64,
                                        op, check::dtype_name(rowptr.dtype), nnz, n);
    }
    const int64_t longest = nnz == 0 ? n + 1 : out_nnz;
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "the result", &longest, 1, rowptr.dtype));
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "the result", &longest, 1, value.dtype));
    *sizes = {n, nnz, out_nnz};
    return {};
}

}  // namespace

Status check_gcn_norm(const TensorArg& rowptr, const TensorArg& col, const TensorArg& value,
                      GcnNormSizes* sizes) {
    return check_graph("gcn_norm", rowptr, col, value, sizes);
}

Status check_gcn_norm_backward(const TensorArg& grad, const TensorArg& rowptr, const TensorArg& col,
                               const TensorArg& value, GcnNormSizes* sizes) {
    constexpr const char* op = "_gcn_norm_backward";
    OPSERVE_RETURN_IF_ERROR(check_graph(op, rowptr, col, value, sizes));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "grad", grad, 1));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "grad", grad, "value", value));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "grad", grad, "value", value));
    return check::size(op, "grad", grad, 0, "nnz+n", sizes->out_nnz);
}

}  // namespace opserve
