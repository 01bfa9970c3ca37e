// The CPU as a place to run operators: the provider's name, and which kernels to call. The operators
// themselves are written once over a `Device`; another device is another struct with these members.
#pragma once

#include "../../kernels/check.h"
#include "call.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/parallel.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

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

    using Scratch = HostScratch;

    // Where a call runs: on the threads of the runtime.
    class Execution {
      public:
        explicit Execution(Call& call) : call_(call) {}
        OrtStatus* start() { return nullptr; }
        ParallelFor parallel_for() const;

      private:
        Call& call_;
    };

    static Status scaled_add(const ScaledAddParams& params, const Execution& execution) {
        return cpu::scaled_add(params, execution.parallel_for());
    }
    static Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes) {
        return cpu::graph_conv_workspace_size(params, bytes);
    }
    static Status graph_conv(const GraphConvParams& params, const Execution& execution) {
        return cpu::graph_conv(params, execution.parallel_for());
    }
    static Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
        return cpu::graph_conv_csr_workspace_size(params, bytes);
    }
    static Status graph_conv_csr(const GraphConvCsrParams& params, const Execution& execution) {
        return cpu::graph_conv_csr(params, execution.parallel_for());
    }
    static Status warp_perspective(const WarpPerspectiveParams& params, const Execution& execution) {
        return cpu::warp_perspective(params, execution.parallel_for());
    }
};

}  // namespace opserve::ort_binding
