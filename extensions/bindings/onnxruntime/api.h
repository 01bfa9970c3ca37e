// The ONNX Runtime API as this binding uses it: nothing throws, every failure is a status.
#pragma once

#include "abi.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

#define OPSERVE_ORT_RETURN_IF_ERROR(expression)            \
    do {                                                   \
        OrtStatus* opserve_ort_status = (expression);      \
        if (opserve_ort_status) return opserve_ort_status; \
    } while (false)

namespace opserve::ort_binding {

// Each becomes its own exception in Python: InvalidArgument, Fail, EPFail. The runtime's own allocators
// report a lack of memory as ORT_FAIL, too.
constexpr OrtErrorCode error_code(Status::Code code) {
    switch (code) {
        case Status::Code::kOutOfMemory:
            return ORT_FAIL;
        case Status::Code::kDeviceFailure:
            return ORT_EP_FAIL;
        default:
            return ORT_INVALID_ARGUMENT;
    }
}

inline OrtStatus* to_ort(const OrtApi& api, const Status& status) {
    if (status.ok()) return nullptr;
    return api.CreateStatus(error_code(status.code()), status.message());
}

// For a call whose failure means that something is absent.
inline bool succeeded(const OrtApi& api, OrtStatus* status) {
    if (status == nullptr) return true;
    api.ReleaseStatus(status);
    return false;
}

constexpr DType to_dtype(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return DType::kFloat16;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
            return DType::kBFloat16;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return DType::kFloat32;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
            return DType::kFloat64;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
            return DType::kInt32;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return DType::kInt64;
        default:
            return DType::kOther;
    }
}

}  // namespace opserve::ort_binding
