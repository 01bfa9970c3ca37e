#pragma once

#include "opserve/graph_conv.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// GraphConv(a, x, weight, bias optional) -> out
struct GraphConv {
    static constexpr const char* kName = "GraphConv";
    static constexpr const char* kOp = "graph_conv";
    static constexpr InputSpec kInputs[] = {{"a"}, {"x"}, {"weight"}, {"bias", true}};
    static constexpr size_t kTypedInput = 1;
    static constexpr size_t kOutputs[] = {1};

    OrtStatus* read(const OrtApi&, const Attributes&, DType) { return nullptr; }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input a, x, weight, bias;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&a, &x, &weight, &bias));
        GraphConvParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(check_graph_conv(a.arg, x.arg, weight.arg, bias.optional(), &params.sizes)));
        params.dtype = x.arg.dtype;
        int64_t bytes = 0;
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(OPSERVE_KERNEL(Device, graph_conv_workspace_size)(params, &bytes)));
        params.a = a.data;
        params.a_stride = a.stride(0);
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
        return call.status(OPSERVE_KERNEL(Device, graph_conv)(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        const Shape a = inference.input(0), x = inference.input(1);
        const Shape weight = inference.input(2), bias = inference.input(3);
        Shape out;
        out.type = x.type;
        out.dim = 2;
        out.dims[0] = x.at(0, 2).or_else(a.at(0, 2)).or_else(a.at(1, 2));
        out.dims[1] = weight.at(1, 2).or_else(bias.at(0, 1));
        inference.output(0, out);
    }
};

}  // namespace opserve::ort_binding
