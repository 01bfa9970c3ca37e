// NVIDIA GPUs as a place to run operators, for the runtime's CUDA execution provider; see cpu.h.
#pragma once

#include "call.h"
#include "opserve/cuda.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

namespace opserve::ort_binding {

// Bytes of the device's memory until the end of the scope. Kernels may still use them then: the runtime knows
// the stream that they belong to, and gives them to no other one before it has come so far.
class StreamScratch {
  public:
    explicit StreamScratch(const Call& call) : call_(call) {}
    StreamScratch(const StreamScratch&) = delete;
    StreamScratch& operator=(const StreamScratch&) = delete;
    ~StreamScratch();

    OrtStatus* allocate(int64_t bytes, void** data);

  private:
    const Call& call_;
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

    using Scratch = StreamScratch;

    // Where a call runs: on the provider's device, on the stream that the runtime runs this node on.
    class Execution {
      public:
        explicit Execution(Call& call) : call_(call) {}
        OrtStatus* start();
        cuda::Stream stream() const { return stream_; }

      private:
        Call& call_;
        cuda::Stream stream_ = nullptr;
    };

    static Status scaled_add(const ScaledAddParams& params, const Execution& execution) {
        return cuda::scaled_add(params, execution.stream());
    }
    static Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes) {
        return cuda::graph_conv_workspace_size(params, bytes);
    }
    // Dense products are kernels of this project: the runtime gives its cuBLAS handle to nobody.
    static Status graph_conv(const GraphConvParams& params, const Execution& execution) {
        return cuda::graph_conv(params, cuda::Product(), execution.stream());
    }
    static Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
        return cuda::graph_conv_csr_workspace_size(params, bytes);
    }
    static Status graph_conv_csr(const GraphConvCsrParams& params, const Execution& execution) {
        return cuda::graph_conv_csr(params, cuda::Product(), execution.stream());
    }
    static Status warp_perspective(const WarpPerspectiveParams& params, const Execution& execution) {
        return cuda::warp_perspective(params, execution.stream());
    }
};

}  // namespace opserve::ort_binding
