#include "opserve/check.h"
#include "opserve/graph_conv.h"

namespace opserve {

Status check_graph_conv(const TensorArg& a, const TensorArg& x, const TensorArg& weight,
                        const TensorArg* bias, GraphConvSizes* sizes) {
    constexpr const char* op = "graph_conv";
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "a", a, 2));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "x", x, 2));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "weight", weight, 2));
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "a", a, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "weight", weight, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "a", a, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "weight", weight, "x", x));
    const int64_t n = x.sizes[0];
    const int64_t f = x.sizes[1];
    const int64_t k = weight.sizes[1];
    OPSERVE_RETURN_IF_ERROR(check::size(op, "a", a, 0, "n", n));
    OPSERVE_RETURN_IF_ERROR(check::size(op, "a", a, 1, "n", n));
    OPSERVE_RETURN_IF_ERROR(check::size(op, "weight", weight, 0, "f", f));
    OPSERVE_RETURN_IF_ERROR(check::optional_vector(op, "bias", bias, "x", x, "k", k));
    const int64_t out[] = {n, k};
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "the result", out, 2, x.dtype));
    *sizes = {n, f, k};
    return {};
}

Status check_graph_conv_backward(const TensorArg& grad, const TensorArg& a, const TensorArg& x,
                                 const TensorArg& weight, GraphConvSizes* sizes) {
    OPSERVE_RETURN_IF_ERROR(check_graph_conv(a, x, weight, nullptr, sizes));
    return check::gradient("_graph_conv_backward", grad, "x", x, sizes->n, sizes->k);
}

}  // namespace opserve
