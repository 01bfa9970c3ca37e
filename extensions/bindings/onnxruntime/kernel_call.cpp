#include "kernel_call.h"

#include <cinttypes>
#include <cstring>

namespace opserve::ort_binding {
namespace {

OrtStatus* read_type_and_shape(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info, Input* input) {
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OPSERVE_ORT_RETURN_IF_ERROR(api.GetTensorElementType(info, &type));
    size_t dim = 0;
    OPSERVE_ORT_RETURN_IF_ERROR(api.GetDimensionsCount(info, &dim));
    if (dim > Input::kMaxDim) {
        return api.CreateStatus(ORT_INVALID_ARGUMENT, "opserve: a tensor must have at most 64 dimensions");
    }
    OPSERVE_ORT_RETURN_IF_ERROR(api.GetDimensions(info, input->sizes, dim));
    input->arg.dtype = to_dtype(type);
    input->arg.dim = static_cast<int64_t>(dim);
    return nullptr;
}

}  // namespace

OrtStatus* KernelCall::input(size_t index, Input* input) const {
    const OrtValue* value = nullptr;
    // Optional inputs at the end may be missing altogether; others are present, but null.
    if (index < input_count_)
        OPSERVE_ORT_RETURN_IF_ERROR(api_.KernelContext_GetInput(context_, index, &value));
    input->present = value != nullptr;
    if (value == nullptr) return nullptr;

    // The runtime has moved every input to the device of the kernel.
    input->arg.device_type = device_type_;
    input->arg.device_index = 0;
    input->arg.sizes = input->sizes;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    OPSERVE_ORT_RETURN_IF_ERROR(api_.GetTensorTypeAndShape(value, &info));
    OrtStatus* status = read_type_and_shape(api_, info, input);
    api_.ReleaseTensorTypeAndShapeInfo(info);
    if (status != nullptr) return status;
    // Strings have no data to point to; the checks refuse them by their type.
    if (input->arg.dtype == DType::kOther) return nullptr;
    // There is no call for read-only access.
    void* data = nullptr;
    OPSERVE_ORT_RETURN_IF_ERROR(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    input->data = data;
    return nullptr;
}

OrtStatus* KernelCall::output(size_t index, const int64_t* sizes, int64_t dim, void** data) const {
    OrtValue* value = nullptr;
    OrtStatus* status =
        api_.KernelContext_GetOutput(context_, index, sizes, static_cast<size_t>(dim), &value);
    if (status == nullptr) return api_.GetTensorMutableData(value, data);
    // The runtime's own message: the code does not distinguish a lack of memory from a model that contradicts
    // itself.
    const char* text = api_.GetErrorMessage(status);
    if (std::strstr(text, "Failed to allocate memory") == nullptr &&
        std::strstr(text, "bad_alloc") == nullptr)
        return status;
    api_.ReleaseStatus(status);
    int64_t elements = 1;
    for (int64_t axis = 0; axis < dim; ++axis) elements *= sizes[axis];
    return this->status(Status::out_of_memory(
        "opserve::%s: out of memory: cannot allocate a result of %" PRId64 " elements", op_, elements));
}

void* align_workspace(void* block) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(block);
    return static_cast<char*>(block) +
           (kWorkspaceAlignment - address % kWorkspaceAlignment) % kWorkspaceAlignment;
}

HostWorkspace::~HostWorkspace() {
    if (block_ != nullptr) call_.allocator()->Free(call_.allocator(), block_);
}

OrtStatus* HostWorkspace::allocate(int64_t bytes, void** data) {
    *data = inline_;
    if (bytes <= kInline) return nullptr;
    int64_t room = 0;
    if (checked_add(bytes, kWorkspaceAlignment - 1, &room)) {
        block_ = ort_binding::allocate(call_.allocator(), static_cast<size_t>(room));
    }
    if (block_ == nullptr) {
        return call_.status(Status::out_of_memory("opserve::%s: out of memory: cannot allocate %" PRId64
                                                  " bytes for intermediate results",
                                                  call_.op(), bytes));
    }
    *data = align_workspace(block_);
    return nullptr;
}

}  // namespace opserve::ort_binding
