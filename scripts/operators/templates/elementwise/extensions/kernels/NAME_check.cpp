#include "opserve/${name}.h"

#include <cinttypes>

#include "opserve/check.h"

namespace opserve {

Status check_${name}(const TensorArg& x, int64_t* numel) {
    constexpr const char* op = "${name}";
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "x", x.sizes, x.dim, x.dtype));
    *numel = 1;
    for (int64_t axis = 0; axis < x.dim; ++axis) *numel *= x.sizes[axis];
    return {};
}

Status check_${name}_backward(const TensorArg& grad, const TensorArg& x, int64_t* numel) {
    constexpr const char* op = "_${name}_backward";
    OPSERVE_RETURN_IF_ERROR(check_${name}(x, numel));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "grad", grad, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "grad", grad, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "grad", grad, x.dim));
    for (int64_t axis = 0; axis < x.dim; ++axis) {
        if (grad.sizes[axis] != x.sizes[axis]) {
            return Status::invalid_argument("opserve::%s: grad must have size %" PRId64
                                            " in dimension %" PRId64 ", as x has, got %" PRId64,
                                            op, x.sizes[axis], axis, grad.sizes[axis]);
        }
    }
    return {};
}

}  // namespace opserve
