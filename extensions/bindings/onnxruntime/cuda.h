// NVIDIA GPUs as a place to run operators, for the runtime's CUDA execution provider; see cpu.h.
#pragma once

#include "kernel_call.h"
#include "opserve/cuda.h"

namespace opserve::ort_binding {

// Bytes of the device's memory until the end of the scope. Kernels may still use them then: the runtime knows
// the stream that they belong to, and gives them to no other one before it has come so far.
class StreamWorkspace {
  public:
    explicit StreamWorkspace(const KernelCall& call) : call_(call) {}
    StreamWorkspace(const StreamWorkspace&) = delete;
    StreamWorkspace& operator=(const StreamWorkspace&) = delete;
    ~StreamWorkspace();

    OrtStatus* allocate(int64_t bytes, void** data);

  private:
    const KernelCall& call_;
    void* block_ = nullptr;
};

struct Cuda {
    // Left out, the runtime would take the operators for ones of the CPU.
    static constexpr const char* kProvider = "CUDAExecutionProvider";
    static constexpr DeviceType kDeviceType = DeviceType::kCuda;
    // Nodes of other types stay with the operators of the CPU, which say what is wrong with them.
    static constexpr ONNXTensorElementDataType kTypes[] = {
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
    };
    static Status check_dtype(const char*, const char*, DType) { return {}; }

    using Workspace = StreamWorkspace;

    // Where a call runs: on the provider's device, on the stream that the runtime runs this node on.
    class Execution {
      public:
        explicit Execution(KernelCall& call) : call_(call) {}
        OrtStatus* start();
        // Dense products are kernels of this project: the runtime does not share its cuBLAS handle.
        cuda::Execution get() const { return {stream_, {}}; }

      private:
        KernelCall& call_;
        cuda::Stream stream_ = nullptr;
    };
};

}  // namespace opserve::ort_binding
