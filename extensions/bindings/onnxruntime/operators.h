// The operators as ONNX knows them: names, inputs, attributes, the shape of the result, and how a run of a
// node becomes parameters of a kernel. `Device` says whose kernels; see cpu.h for its members.
#pragma once

#include <cstdint>

#include "attributes.h"
#include "call.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"
#include "shapes.h"

namespace opserve::ort_binding {

struct InputSpec {
    const char* name;
    bool optional = false;
};

// ScaledAdd(x, y; alpha FLOAT = 2, alpha_f64 TENSOR, optional) -> z
struct ScaledAdd {
    static constexpr const char* kName = "ScaledAdd";
    static constexpr const char* kOp = "scaled_add";
    static constexpr InputSpec kInputs[] = {{"x"}, {"y"}};
    // The input whose type the result has.
    static constexpr size_t kTypedInput = 0;

    OrtStatus* read(const OrtApi&, const Attributes& attributes, DType) {
        return attributes.number(kOp, "alpha", "alpha_f64", &alpha);
    }

    template <class Device>
    OrtStatus* compute(Call& call) const {
        Input x, y;
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(0, &x));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(1, &y));
        ScaledAddParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(check_scaled_add(x.arg, y.arg, &params.numel)));
        params.dtype = x.arg.dtype;
        params.alpha = alpha;
        params.x = x.data;
        params.y = y.data;
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(x.sizes, x.arg.dim, &params.z));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(Device::scaled_add(params, execution));
    }

    static void infer(const ShapeInference& inference) {
        Shape x = inference.input(0);
        const Shape y = inference.input(1);
        if (!x.known()) return;
        for (int64_t i = 0; y.dim == x.dim && i < x.dim; ++i) x.dims[i] = x.dims[i].or_else(y.dims[i]);
        inference.output(x);
    }

    double alpha = 2.0;
};

// GraphConv(a, x, weight, bias optional) -> out
struct GraphConv {
    static constexpr const char* kName = "GraphConv";
    static constexpr const char* kOp = "graph_conv";
    static constexpr InputSpec kInputs[] = {{"a"}, {"x"}, {"weight"}, {"bias", true}};
    static constexpr size_t kTypedInput = 1;

    OrtStatus* read(const OrtApi&, const Attributes&, DType) { return nullptr; }

    template <class Device>
    OrtStatus* compute(Call& call) const {
        Input a, x, weight, bias;
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(0, &a));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(1, &x));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(2, &weight));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(3, &bias));
        GraphConvParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(check_graph_conv(a.arg, x.arg, weight.arg, bias.optional(), &params.sizes)));
        params.dtype = x.arg.dtype;
        int64_t bytes = 0;
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(Device::graph_conv_workspace_size(params, &bytes)));
        params.a = a.data;
        params.a_stride = a.stride(0);
        params.x = x.data;
        params.x_stride = x.stride(0);
        params.weight = weight.data;
        params.weight_stride = weight.stride(0);
        params.bias = bias.data;
        const int64_t sizes[] = {params.sizes.n, params.sizes.k};
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(sizes, 2, &params.out));
        typename Device::Scratch scratch(call);
        OPSERVE_ORT_RETURN_IF_ERROR(scratch.allocate(bytes, &params.workspace));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(Device::graph_conv(params, execution));
    }

    static void infer(const ShapeInference& inference) {
        const Shape a = inference.input(0), x = inference.input(1);
        const Shape weight = inference.input(2), bias = inference.input(3);
        Shape out;
        out.type = x.type;
        out.dim = 2;
        out.dims[0] = x.at(0, 2).or_else(a.at(0, 2)).or_else(a.at(1, 2));
        out.dims[1] = weight.at(1, 2).or_else(bias.at(0, 1));
        inference.output(out);
    }
};

// GraphConvCSR(rowptr, col, value optional, x, weight, bias optional) -> out
struct GraphConvCsr {
    static constexpr const char* kName = "GraphConvCSR";
    static constexpr const char* kOp = "graph_conv_csr";
    static constexpr InputSpec kInputs[] = {{"rowptr"}, {"col"},    {"value", true},
                                            {"x"},      {"weight"}, {"bias", true}};
    static constexpr size_t kTypedInput = 3;

    OrtStatus* read(const OrtApi&, const Attributes&, DType) { return nullptr; }

    template <class Device>
    OrtStatus* compute(Call& call) const {
        Input rowptr, col, value, x, weight, bias;
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(0, &rowptr));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(1, &col));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(2, &value));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(3, &x));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(4, &weight));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(5, &bias));
        GraphConvCsrParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(check_graph_conv_csr(
            rowptr.arg, col.arg, value.optional(), x.arg, weight.arg, bias.optional(), &params.sizes)));
        params.dtype = x.arg.dtype;
        params.index_dtype = rowptr.arg.dtype;
        int64_t bytes = 0;
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(Device::graph_conv_csr_workspace_size(params, &bytes)));
        params.rowptr = rowptr.data;
        params.col = col.data;
        params.value = value.data;
        params.x = x.data;
        params.x_stride = x.stride(0);
        params.weight = weight.data;
        params.weight_stride = weight.stride(0);
        params.bias = bias.data;
        const int64_t sizes[] = {params.sizes.n, params.sizes.k};
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(sizes, 2, &params.out));
        typename Device::Scratch scratch(call);
        OPSERVE_ORT_RETURN_IF_ERROR(scratch.allocate(bytes, &params.workspace));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(Device::graph_conv_csr(params, execution));
    }

    static void infer(const ShapeInference& inference) {
        const Shape x = inference.input(3), weight = inference.input(4), bias = inference.input(5);
        Shape out;
        out.type = x.type;
        out.dim = 2;
        out.dims[0] = x.at(0, 2);
        out.dims[1] = weight.at(1, 2).or_else(bias.at(0, 1));
        inference.output(out);
    }
};

// WarpPerspective(image, matrix; size INTS = [8, 8]) -> out
struct WarpPerspective {
    static constexpr const char* kName = "WarpPerspective";
    static constexpr const char* kOp = "warp_perspective";
    static constexpr InputSpec kInputs[] = {{"image"}, {"matrix"}};
    static constexpr size_t kTypedInput = 0;

    OrtStatus* read(const OrtApi& api, const Attributes& attributes, DType dtype) {
        OPSERVE_ORT_RETURN_IF_ERROR(attributes.integers(kOp, "size", size, 2, &size_count));
        // With arguments that nothing is wrong with, so that a wrong size is told before the first run.
        const int64_t image_sizes[] = {0, 0}, matrix_sizes[] = {3, 3};
        const TensorArg image{dtype, DeviceType::kCpu, 0, 2, image_sizes};
        const TensorArg matrix{DType::kFloat64, DeviceType::kCpu, 0, 2, matrix_sizes};
        WarpPerspectiveSizes sizes;
        return to_ort(api, check_warp_perspective(image, matrix, size, size_count, &sizes));
    }

    template <class Device>
    OrtStatus* compute(Call& call) const {
        Input image, matrix;
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(0, &image));
        OPSERVE_ORT_RETURN_IF_ERROR(call.input(1, &matrix));
        WarpPerspectiveParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(check_warp_perspective(image.arg, matrix.arg, size, size_count, &params.sizes)));
        params.dtype = image.arg.dtype;
        params.matrix_dtype = matrix.arg.dtype;
        const int64_t dim = image.arg.dim;
        params.image = image.data;
        params.image_stride_n = dim == 4 ? image.stride(0) : 0;
        params.image_stride_c = dim >= 3 ? image.stride(dim - 3) : 0;
        params.image_stride_h = image.stride(dim - 2);
        params.matrix = matrix.data;
        int64_t sizes[4];
        for (int64_t axis = 0; axis < dim - 2; ++axis) sizes[axis] = image.sizes[axis];
        sizes[dim - 2] = params.sizes.out_h;
        sizes[dim - 1] = params.sizes.out_w;
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(sizes, dim, &params.out));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(Device::warp_perspective(params, execution));
    }

    static void infer(const ShapeInference& inference) {
        Shape out = inference.input(0);
        int64_t sides[2] = {8, 8};
        if (inference.has_attribute("size") && !inference.integers("size", sides, 2)) return;
        if (out.dim < 2 || out.dim > 4 || sides[0] < 0 || sides[1] < 0) return;
        out.dims[out.dim - 2] = {sides[0], ""};
        out.dims[out.dim - 1] = {sides[1], ""};
        inference.output(out);
    }

    int64_t size[2] = {8, 8};
    int64_t size_count = 2;
};

}  // namespace opserve::ort_binding
