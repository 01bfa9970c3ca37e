#include "tensors.h"

#include <ATen/ops/from_blob.h>

#include <memory>
#include <stdexcept>
#include <utility>

namespace opserve::native {
namespace {

constexpr std::pair<DType, at::ScalarType> kDtypes[] = {
    {DType::kFloat32, at::kFloat}, {DType::kInt64, at::kLong},    {DType::kFloat64, at::kDouble},
    {DType::kInt32, at::kInt},     {DType::kBool, at::kBool},     {DType::kUInt8, at::kByte},
    {DType::kInt8, at::kChar},     {DType::kInt16, at::kShort},   {DType::kUInt16, at::kUInt16},
    {DType::kUInt32, at::kUInt32}, {DType::kUInt64, at::kUInt64}, {DType::kFloat16, at::kHalf},
};

at::ScalarType to_scalar_type(DType dtype) {
    for (const auto& [ours, theirs] : kDtypes) {
        if (ours == dtype) return theirs;
    }
    return at::kFloat;  // the list is complete
}

}  // namespace

std::optional<DType> to_dtype(at::ScalarType type) {
    for (const auto& [ours, theirs] : kDtypes) {
        if (theirs == type) return ours;
    }
    return std::nullopt;
}

std::string dtype_name(at::ScalarType type) {
    if (const auto dtype = to_dtype(type)) return std::string(name(*dtype));
    switch (type) {
        case at::kBFloat16:
            return "bfloat16";
        case at::kComplexHalf:
            return "complex32";
        case at::kComplexFloat:
            return "complex64";
        case at::kComplexDouble:
            return "complex128";
        default:
            return c10::toString(type);
    }
}

at::Tensor to_tensor(const Array& array) {
    return at::for_blob(array.data, array.shape)
        .options(at::TensorOptions(to_scalar_type(array.dtype)))
        .context(new std::shared_ptr<void>(array.owner),
                 [](void* owner) { delete static_cast<std::shared_ptr<void>*>(owner); })
        .make_tensor();
}

Array to_array(const at::Tensor& tensor) {
    const std::optional<DType> dtype = to_dtype(tensor.scalar_type());
    if (!dtype) {
        throw std::runtime_error(std::string("Got unsupported ScalarType ") +
                                 c10::toString(tensor.scalar_type()));
    }
    if (tensor.layout() != at::kStrided) throw std::runtime_error("a sparse tensor cannot be an array");
    const auto owner = std::make_shared<at::Tensor>(tensor.contiguous());
    Array array;
    array.dtype = *dtype;
    array.shape = owner->sizes().vec();
    array.data = static_cast<std::byte*>(owner->data_ptr());
    array.owner = owner;
    return array;
}

}  // namespace opserve::native
