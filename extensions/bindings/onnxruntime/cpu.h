// The CPU as a place to run operators: the provider's name, and which kernels to call. The operators
// themselves are written once over a `Device`; another device is another struct with these members.
#pragma once

#include "kernel_call.h"
#include "opserve/check.h"
#include "opserve/parallel.h"

namespace opserve::ort_binding {

struct Cpu {
    static constexpr const char* kProvider = nullptr;  // the provider that is always there
    static constexpr DeviceType kDeviceType = DeviceType::kCpu;
    // The types an operator is registered with. Most of them no kernel serves: without them a node of such a
    // type would fail with the runtime's text, which says neither the type nor those that would do.
    static constexpr ONNXTensorElementDataType kTypes[] = {
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,   ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
    };
    static Status check_dtype(const char* op, const char* name, DType dtype) {
        return check::cpu_dtype(op, name, dtype);
    }

    using Workspace = HostWorkspace;

    // Where a call runs: on the threads of the runtime.
    class Execution {
      public:
        explicit Execution(KernelCall& call) : call_(call) {}
        OrtStatus* start() { return nullptr; }
        ParallelFor get() const;

      private:
        KernelCall& call_;
    };
};

}  // namespace opserve::ort_binding
