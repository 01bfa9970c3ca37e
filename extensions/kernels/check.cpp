#include "opserve/check.h"

#include <cinttypes>

namespace opserve::check {
namespace {

const char* device_name(DeviceType type) {
    switch (type) {
        case DeviceType::kCpu:
            return "cpu";
        case DeviceType::kCuda:
            return "cuda";
        case DeviceType::kOther:
            break;
    }
    return "another device";
}

}  // namespace

const char* dtype_name(DType dtype) {
    switch (dtype) {
        case DType::kFloat16:
            return "float16";
        case DType::kBFloat16:
            return "bfloat16";
        case DType::kFloat32:
            return "float32";
        case DType::kFloat64:
            return "float64";
        case DType::kInt32:
            return "int32";
        case DType::kInt64:
            return "int64";
        case DType::kOther:
            break;
    }
    return "another dtype";
}

Status rank(const char* op, const char* name, const TensorArg& tensor, int64_t expected) {
    if (tensor.dim == expected) return {};
    return Status::invalid_argument("opserve::%s: %s must have %" PRId64 " dimension%s, got %" PRId64, op,
                                    name, expected, expected == 1 ? "" : "s", tensor.dim);
}

Status size(const char* op, const char* name, const TensorArg& tensor, int64_t axis, const char* meaning,
            int64_t expected) {
    if (tensor.sizes[axis] == expected) return {};
    const char* unit = tensor.dim == 1 ? "elements" : axis == 0 ? "rows" : "columns";
    return Status::invalid_argument("opserve::%s: %s must have %s = %" PRId64 " %s, got %" PRId64, op, name,
                                    meaning, expected, unit, tensor.sizes[axis]);
}

Status floating(const char* op, const char* name, const TensorArg& tensor) {
    switch (tensor.dtype) {
        case DType::kFloat16:
        case DType::kBFloat16:
        case DType::kFloat32:
        case DType::kFloat64:
            return {};
        default:
            return Status::invalid_argument("opserve::%s: %s must be of a floating-point dtype, got %s", op,
                                            name, dtype_name(tensor.dtype));
    }
}

Status index(const char* op, const char* name, const TensorArg& tensor) {
    if (tensor.dtype == DType::kInt32 || tensor.dtype == DType::kInt64) return {};
    return Status::invalid_argument("opserve::%s: %s must be int32 or int64, got %s", op, name,
                                    dtype_name(tensor.dtype));
}

Status same_dtype(const char* op, const char* name, const TensorArg& tensor, const char* other_name,
                  const TensorArg& other) {
    if (tensor.dtype == other.dtype) return {};
    return Status::invalid_argument("opserve::%s: %s must have the dtype of %s, %s, got %s", op, name,
                                    other_name, dtype_name(other.dtype), dtype_name(tensor.dtype));
}

Status same_device(const char* op, const char* name, const TensorArg& tensor, const char* other_name,
                   const TensorArg& other) {
    if (tensor.device_type == other.device_type && tensor.device_index == other.device_index) return {};
    return Status::invalid_argument(
        "opserve::%s: %s must be on the device of %s, %s (index %d), got %s (index %d)", op, name, other_name,
        device_name(other.device_type), other.device_index, device_name(tensor.device_type),
        tensor.device_index);
}

Status optional_vector(const char* op, const char* name, const TensorArg* tensor, const char* other_name,
                       const TensorArg& other, const char* meaning, int64_t expected) {
    if (tensor == nullptr) return {};
    OPSERVE_RETURN_IF_ERROR(rank(op, name, *tensor, 1));
    OPSERVE_RETURN_IF_ERROR(same_dtype(op, name, *tensor, other_name, other));
    OPSERVE_RETURN_IF_ERROR(same_device(op, name, *tensor, other_name, other));
    return size(op, name, *tensor, 0, meaning, expected);
}

Status gradient(const char* op, const TensorArg& grad, const char* other_name, const TensorArg& other,
                int64_t n, int64_t k) {
    OPSERVE_RETURN_IF_ERROR(rank(op, "grad", grad, 2));
    OPSERVE_RETURN_IF_ERROR(same_dtype(op, "grad", grad, other_name, other));
    OPSERVE_RETURN_IF_ERROR(same_device(op, "grad", grad, other_name, other));
    OPSERVE_RETURN_IF_ERROR(size(op, "grad", grad, 0, "n", n));
    return size(op, "grad", grad, 1, "k", k);
}

Status addressable(const char* op, const char* name, const int64_t* sizes, int64_t dim, DType dtype) {
    int64_t bytes = element_size(dtype);
    for (int64_t axis = 0; axis < dim; ++axis) {
        // A later 0 makes the tensor empty, but its strides are products of the other sizes, which must fit
        // as well.
        const int64_t factor = sizes[axis] > 1 ? sizes[axis] : 1;
        if (!checked_multiply(bytes, factor, &bytes)) {
            return Status::invalid_argument(
                "opserve::%s: %s must fit in 2^63 bytes, got sizes whose product does not", op, name);
        }
    }
    return {};
}

Status cpu_dtype(const char* op, const char* name, DType dtype) {
    if (dtype == DType::kFloat32 || dtype == DType::kFloat64) return {};
    return Status::invalid_argument("opserve::%s: %s must be float32 or float64 on the CPU, got %s", op, name,
                                    dtype_name(dtype));
}

}  // namespace opserve::check
