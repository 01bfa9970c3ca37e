#include "opserve/${name}.h"

#include "opserve/check.h"

namespace opserve {

Status check_${name}(const TensorArg& x, ${Class}Sizes* sizes) {
    constexpr const char* op = "${name}";
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "x", x, 2));
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "x", x.sizes, x.dim, x.dtype));
    *sizes = {x.sizes[0], x.sizes[1]};
    return {};
}

Status check_${name}_backward(const TensorArg& grad, const TensorArg& x, ${Class}Sizes* sizes) {
    constexpr const char* op = "_${name}_backward";
    OPSERVE_RETURN_IF_ERROR(check_${name}(x, sizes));
    OPSERVE_RETURN_IF_ERROR(check::rank(op, "grad", grad, 1));
    OPSERVE_RETURN_IF_ERROR(check::same_dtype(op, "grad", grad, "x", x));
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "grad", grad, "x", x));
    return check::size(op, "grad", grad, 0, "n", sizes->n);
}

}  // namespace opserve
