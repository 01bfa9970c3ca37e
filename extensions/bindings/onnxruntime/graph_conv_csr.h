#pragma once

#include "opserve/graph_conv_csr.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// GraphConvCSR(rowptr, col, value optional, x, weight, bias optional) -> out
struct GraphConvCsr {
    static constexpr const char* kName = "GraphConvCSR";
    static constexpr const char* kOp = "graph_conv_csr";
    static constexpr InputSpec kInputs[] = {{"rowptr"}, {"col"},    {"value", true},
                                            {"x"},      {"weight"}, {"bias", true}};
    static constexpr size_t kTypedInput = 3;
    static constexpr size_t kOutputs[] = {3};

    OrtStatus* read(const OrtApi&, const Attributes&, DType) { return nullptr; }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input rowptr, col, value, x, weight, bias;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&rowptr, &col, &value, &x, &weight, &bias));
        GraphConvCsrParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(check_graph_conv_csr(
            rowptr.arg, col.arg, value.optional(), x.arg, weight.arg, bias.optional(), &params.sizes)));
        params.dtype = x.arg.dtype;
        params.index_dtype = rowptr.arg.dtype;
        int64_t bytes = 0;
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(OPSERVE_KERNEL(Device, graph_conv_csr_workspace_size)(params, &bytes)));
        params.rowptr = rowptr.data;
        params.col = col.data;
        params.value = value.data;
        params.x = x.data;
        params.x_stride = x.stride(0);
        params.weight = weight.data;
        params.weight_stride = weight.stride(0);
        params.bias = bias.data;
        const int64_t sizes[] = {params.sizes.n, params.sizes.k};
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(0, sizes, 2, &params.out));
        typename Device::Workspace workspace(call);
        OPSERVE_ORT_RETURN_IF_ERROR(workspace.allocate(bytes, &params.workspace));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(OPSERVE_KERNEL(Device, graph_conv_csr)(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        const Shape x = inference.input(3), weight = inference.input(4), bias = inference.input(5);
        Shape out;
        out.type = x.type;
        out.dim = 2;
        out.dims[0] = x.at(0, 2);
        out.dims[1] = weight.at(1, 2).or_else(bias.at(0, 1));
        inference.output(0, out);
    }
};

}  // namespace opserve::ort_binding
