#include <cinttypes>

#include "opserve/check.h"
#include "opserve/graph_conv_csr.h"

namespace opserve {

Status check_graph_conv_csr(const TensorArg& rowptr, const TensorArg& col, const TensorArg* value,
                            const TensorArg& x, const TensorArg& weight, const TensorArg* bias,
                            GraphConvCsrSizes* sizes) {
    constexpr const char* op = "graph_conv_csr";
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "rowptr", rowptr, 1));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "col", col, 1));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "x", x, 2));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "weight", weight, 2));
    OPSERVE_RETURN_IF_ERROR(check::index(op, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "col", col, "rowptr", rowptr));
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "weight", weight, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "rowptr", rowptr, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "col", col, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "weight", weight, "x", x));
    const int64_t n = x.sizes[0];
    const int64_t nnz = col.sizes[0];
    const int64_t f = x.sizes[1];
    const int64_t k = weight.sizes[1];
    int64_t rows = 0;
    if (!checked_add(n, 1, &rows)) {
        return Status::invalid_argument("opserve::%s: x must have fewer than 2^63 - 1 rows, got %" PRId64, op,
                                        n);
    }
    OPSERVE_RETURN_IF_ERROR(check::size(op, "rowptr", rowptr, 0, "n+1", rows));
    OPSERVE_RETURN_IF_ERROR(check::size(op, "weight", weight, 0, "f", f));
    OPSERVE_RETURN_IF_ERROR(check::optional_vector(op, "value", value, "x", x, "nnz", nnz));
    OPSERVE_RETURN_IF_ERROR(check::optional_vector(op, "bias", bias, "x", x, "k", k));
    const int64_t out[] = {n, k};
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "the result", out, 2, x.dtype));
    *sizes = {n, nnz, f, k};
    return {};
}

Status check_graph_conv_csr_backward(const TensorArg& grad, const TensorArg& rowptr, const TensorArg& col,
                                     const TensorArg* value, const TensorArg& x, const TensorArg& weight,
                                     GraphConvCsrSizes* sizes) {
    OPSERVE_RETURN_IF_ERROR(check_graph_conv_csr(rowptr, col, value, x, weight, nullptr, sizes));
    return check::gradient("_graph_conv_csr_backward", grad, "x", x, sizes->n, sizes->k);
}

}  // namespace opserve
