// The arguments of the backward operators: those of the forward one, and the gradient of its result.
#include <cinttypes>

#include "check.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

namespace opserve {
namespace {

// [n, k], as the result was.
Status check_grad(const char* op, const TensorArg& grad, const TensorArg& x, int64_t n, int64_t k) {
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "grad", grad, 2));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "grad", grad, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "grad", grad, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::size(op, "grad", grad, 0, "n", n));
    return check::size(op, "grad", grad, 1, "k", k);
}

}  // namespace

Status check_graph_conv_backward(const TensorArg& grad, const TensorArg& a, const TensorArg& x,
                                 const TensorArg& weight, GraphConvSizes* sizes) {
    OPSERVE_RETURN_IF_ERROR(check_graph_conv(a, x, weight, nullptr, sizes));
    return check_grad("_graph_conv_backward", grad, x, sizes->n, sizes->k);
}

Status check_graph_conv_csr_backward(const TensorArg& grad, const TensorArg& rowptr, const TensorArg& col,
                                     const TensorArg* value, const TensorArg& x, const TensorArg& weight,
                                     GraphConvCsrSizes* sizes) {
    OPSERVE_RETURN_IF_ERROR(check_graph_conv_csr(rowptr, col, value, x, weight, nullptr, sizes));
    return check_grad("_graph_conv_csr_backward", grad, x, sizes->n, sizes->k);
}

Status check_scaled_add_backward(const TensorArg& grad, int64_t* numel) {
    constexpr const char* op = "_scaled_add_backward";
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "grad", grad));
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "grad", grad.sizes, grad.dim, grad.dtype));
    *numel = 1;
    for (int64_t axis = 0; axis < grad.dim; ++axis) *numel *= grad.sizes[axis];
    return {};
}

Status check_warp_perspective_backward(const TensorArg& grad, const TensorArg& image, const TensorArg& matrix,
                                       const int64_t* size, int64_t size_count, WarpPerspectiveSizes* sizes) {
    constexpr const char* op = "_warp_perspective_backward";
    OPSERVE_RETURN_IF_ERROR(check_warp_perspective(image, matrix, size, size_count, sizes));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "grad", grad, image.dim));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "grad", grad, "image", image));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "grad", grad, "image", image));
    for (int64_t axis = 0; axis < grad.dim; ++axis) {
        const int64_t expected = axis < grad.dim - 2 ? image.sizes[axis] : size[axis - (grad.dim - 2)];
        if (grad.sizes[axis] != expected) {
            return Status::invalid_argument("opserve::%s: grad must have size %" PRId64
                                            " in dimension %" PRId64 ", as the result has, got %" PRId64,
                                            op, expected, axis, grad.sizes[axis]);
        }
    }
    return {};
}

}  // namespace opserve
