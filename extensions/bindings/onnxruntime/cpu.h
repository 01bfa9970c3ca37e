// The CPU as a `Device`, over which the operators are written once: the provider's name, the types it
// registers, where intermediate results are stored, and how a call runs. Another device is another struct
// with these members.
#pragma once

#include "kernel_call.h"
#include "opserve/check.h"
#include "opserve/parallel.h"

namespace opserve::ort_binding {

struct Cpu {
    static constexpr const char* kProvider = nullptr;  // the default provider
    static constexpr DeviceType kDeviceType = DeviceType::kCpu;
    // The types an operator is registered with. Kernels serve only a few of them: without the others, a node
    // of such a type would fail with the runtime's message, which names neither the type nor the supported
    // ones.
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

    // One call, on the runtime's threads.
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
