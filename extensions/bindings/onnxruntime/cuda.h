// NVIDIA GPUs as a `Device`, for the runtime's CUDA execution provider; see cpu.h.
#pragma once

#include "kernel_call.h"
#include "opserve/cuda.h"

namespace opserve::ort_binding {

// Device memory until the end of the scope. Kernels may still use it then: the runtime knows which stream it
// belongs to, and does not give it to another stream before this one has finished with it.
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
    // Without it, the runtime would take the operators for CPU operators.
    static constexpr const char* kProvider = "CUDAExecutionProvider";
    static constexpr DeviceType kDeviceType = DeviceType::kCuda;
    // Nodes of other types stay with the CPU operators, which report what is wrong with them.
    static constexpr ONNXTensorElementDataType kTypes[] = {
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
    };
    static Status check_dtype(const char*, const char*, DType) { return {}; }

    using Workspace = StreamWorkspace;

    // One call, on the provider's device and the stream that the runtime runs the node on.
    class Execution {
      public:
        explicit Execution(KernelCall& call) : call_(call) {}
        OrtStatus* start();
        // Dense products are this project's kernels: the runtime does not share its cuBLAS handle.
        cuda::Execution get() const { return {stream_, {}}; }

      private:
        KernelCall& call_;
        cuda::Stream stream_ = nullptr;
    };
};

}  // namespace opserve::ort_binding
