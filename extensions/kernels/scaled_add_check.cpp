#include <cinttypes>

#include "opserve/check.h"
#include "opserve/scaled_add.h"

namespace opserve {

Status check_scaled_add(const TensorArg& x, const TensorArg& y, int64_t* numel) {
    constexpr const char* op = "scaled_add";
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "y", y, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "y", y, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "y", y, x.dim));
    int64_t count = 1;
    for (int64_t axis = 0; axis < x.dim; ++axis) {
        if (y.sizes[axis] != x.sizes[axis]) {
            return Status::invalid_argument("opserve::%s: y must have size %" PRId64 " in dimension %" PRId64
                                            ", as x has, got %" PRId64,
                                            op, x.sizes[axis], axis, y.sizes[axis]);
        }
    }
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "x", x.sizes, x.dim, x.dtype));
    for (int64_t axis = 0; axis < x.dim; ++axis) count *= x.sizes[axis];
    *numel = count;
    return {};
}

Status check_scaled_add_backward(const TensorArg& grad, int64_t* numel) {
    constexpr const char* op = "_scaled_add_backward";
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "grad", grad));
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "grad", grad.sizes, grad.dim, grad.dtype));
    *numel = 1;
    for (int64_t axis = 0; axis < grad.dim; ++axis) *numel *= grad.sizes[axis];
    return {};
}

}  // namespace opserve
