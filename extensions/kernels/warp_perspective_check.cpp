#include <cinttypes>

#include "opserve/check.h"
#include "opserve/warp_perspective.h"

namespace opserve {

Status check_warp_perspective(const TensorArg& image, const TensorArg& matrix, const int64_t* size,
                              int64_t size_count, WarpPerspectiveSizes* sizes) {
    constexpr const char* op = "warp_perspective";
    // Clamped coordinates, and their neighbours to the right, are held in 32 bits.
    constexpr int64_t max_side = (int64_t{1} << 31) - 8;
    if (image.dim < 2 || image.dim > 4) {
        return Status::invalid_argument("opserve::%s: image must have 2, 3 or 4 dimensions, got %" PRId64, op,
                                        image.dim);
    }
    OPSERVE_RETURN_IF_ERROR(check::floating(op, "image", image));
    if (matrix.dtype != DType::kFloat32 && matrix.dtype != DType::kFloat64) {
        return Status::invalid_argument("opserve::%s: matrix must be float32 or float64, got %s", op,
                                        check::dtype_name(matrix.dtype));
    }
    OPSERVE_RETURN_IF_ERROR(check::same_device(op, "matrix", matrix, "image", image));
    const int64_t n = image.dim == 4 ? image.sizes[0] : 1;
    const int64_t c = image.dim >= 3 ? image.sizes[image.dim - 3] : 1;
    const int64_t h = image.sizes[image.dim - 2];
    const int64_t w = image.sizes[image.dim - 1];
    const bool per_image = matrix.dim == 3;
    if (matrix.dim != 2 && !(per_image && image.dim == 4)) {
        return Status::invalid_argument(
            "opserve::%s: matrix must be [3, 3]%s, got %" PRId64 " dimension%s", op,
            image.dim == 4 ? " or [N, 3, 3]" : " for an image without a batch dimension", matrix.dim,
            matrix.dim == 1 ? "" : "s");
    }
    if (matrix.sizes[matrix.dim - 2] != 3 || matrix.sizes[matrix.dim - 1] != 3) {
        return Status::invalid_argument("opserve::%s: matrix must be 3 by 3, got %" PRId64 " by %" PRId64, op,
                                        matrix.sizes[matrix.dim - 2], matrix.sizes[matrix.dim - 1]);
    }
    if (per_image && matrix.sizes[0] != n) {
        return Status::invalid_argument(
            "opserve::%s: matrix must hold N = %" PRId64 " matrices, got %" PRId64, op, n, matrix.sizes[0]);
    }
    if (size_count != 2) {
        return Status::invalid_argument("opserve::%s: size must be (height, width), 2 numbers, got %" PRId64,
                                        op, size_count);
    }
    for (int i = 0; i < 2; ++i) {
        if (size[i] < 0 || size[i] >= max_side) {
            return Status::invalid_argument(
                "opserve::%s: size[%d] must be at least 0 and below 2^31 - 8, got %" PRId64, op, i, size[i]);
        }
    }
    if (h >= max_side || w >= max_side) {
        return Status::invalid_argument(
            "opserve::%s: image must have sides below 2^31 - 8, got %" PRId64 " by %" PRId64, op, h, w);
    }
    const int64_t out[] = {n, c, size[0], size[1]};
    OPSERVE_RETURN_IF_ERROR(check::addressable(op, "the result", out, 4, image.dtype));
    *sizes = {n, c, h, w, size[0], size[1], per_image};
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
