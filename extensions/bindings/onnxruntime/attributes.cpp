#include "attributes.h"

#include <algorithm>

namespace opserve::ort_binding {

// The runtime has no call for this: asked for another type, it fails as if there were no attribute, or
// returns an empty array.
bool Attributes::exists(const char* name) const {
    float number = 0;
    int64_t integer = 0;
    size_t size = 0;
    OrtValue* tensor = nullptr;
    if (succeeded(api_, api_.KernelInfoGetAttribute_tensor(info_, name, allocator_, &tensor))) {
        api_.ReleaseValue(tensor);
        return true;
    }
    return succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &number)) ||
           succeeded(api_, api_.KernelInfoGetAttribute_int64(info_, name, &integer)) ||
           succeeded(api_, api_.KernelInfoGetAttribute_string(info_, name, nullptr, &size)) ||
           (succeeded(api_, api_.KernelInfoGetAttributeArray_float(info_, name, nullptr, &size)) &&
            size > 0) ||
           (succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size)) && size > 0);
}

OrtStatus* Attributes::wrong(const char* op, const char* name, const char* expected) const {
    return to_ort(api_, Status::invalid_argument("opserve::%s: the attribute %s must be %s, got another type",
                                                 op, name, expected));
}

OrtStatus* Attributes::number(const char* op, const char* name, const char* exact_name, double* value) const {
    float number = 0;
    if (succeeded(api_, api_.KernelInfoGetAttribute_float(info_, name, &number))) {
        *value = static_cast<double>(number);
    } else if (exists(name)) {
        return wrong(op, name, "a FLOAT");
    }

    OrtValue* tensor = nullptr;
    if (!succeeded(api_, api_.KernelInfoGetAttribute_tensor(info_, exact_name, allocator_, &tensor))) {
        return exists(exact_name) ? wrong(op, exact_name, "a TENSOR of one float64") : nullptr;
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t elements = 0;
    void* data = nullptr;
    OrtStatus* status = api_.GetTensorTypeAndShape(tensor, &info);
    if (status == nullptr) status = api_.GetTensorElementType(info, &type);
    if (status == nullptr) status = api_.GetTensorShapeElementCount(info, &elements);
    if (status == nullptr) status = api_.GetTensorMutableData(tensor, &data);
    if (status == nullptr && (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE || elements != 1)) {
        status = wrong(op, exact_name, "a TENSOR of one float64");
    }
    if (status == nullptr) *value = *static_cast<const double*>(data);
    if (info != nullptr) api_.ReleaseTensorTypeAndShapeInfo(info);
    api_.ReleaseValue(tensor);
    return status;
}

OrtStatus* Attributes::integers(const char* op, const char* name, int64_t* values, int64_t capacity,
                                int64_t* count) const {
    size_t size = 0;
    const bool given = succeeded(api_, api_.KernelInfoGetAttributeArray_int64(info_, name, nullptr, &size));
    if (size == 0 && exists(name)) return wrong(op, name, "INTS");
    if (!given) return nullptr;
    *count = static_cast<int64_t>(size);
    // The runtime returns all of them or none; no operator takes this many.
    if (*count == 0 || *count > kMaxIntegers) return nullptr;
    int64_t all[kMaxIntegers];
    OPSERVE_ORT_RETURN_IF_ERROR(api_.KernelInfoGetAttributeArray_int64(info_, name, all, &size));
    std::copy_n(all, std::min(*count, capacity), values);
    return nullptr;
}

}  // namespace opserve::ort_binding
