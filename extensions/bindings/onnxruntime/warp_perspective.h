#pragma once

#include "opserve/warp_perspective.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// WarpPerspective(image, matrix; size INTS = [8, 8]) -> out
struct WarpPerspective {
    static constexpr const char* kName = "WarpPerspective";
    static constexpr const char* kOp = "warp_perspective";
    static constexpr InputSpec kInputs[] = {{"image"}, {"matrix"}};
    static constexpr size_t kTypedInput = 0;
    static constexpr size_t kOutputs[] = {0};

    OrtStatus* read(const OrtApi& api, const Attributes& attributes, DType dtype) {
        OPSERVE_ORT_RETURN_IF_ERROR(attributes.integers(kOp, "size", size, 2, &size_count));
        // With valid arguments, so that a wrong size is reported before the first run.
        const int64_t image_sizes[] = {0, 0}, matrix_sizes[] = {3, 3};
        const TensorArg image{dtype, DeviceType::kCpu, 0, 2, image_sizes};
        const TensorArg matrix{DType::kFloat64, DeviceType::kCpu, 0, 2, matrix_sizes};
        WarpPerspectiveSizes sizes;
        return to_ort(api, check_warp_perspective(image, matrix, size, size_count, &sizes));
    }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input image, matrix;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&image, &matrix));
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
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(0, sizes, dim, &params.out));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(OPSERVE_KERNEL(Device, warp_perspective)(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        Shape out = inference.input(0);
        int64_t sides[2] = {8, 8};
        if (inference.has_attribute("size") && !inference.integers("size", sides, 2)) return;
        if (out.dim < 2 || out.dim > 4 || sides[0] < 0 || sides[1] < 0) return;
        out.dims[out.dim - 2] = {sides[0], ""};
        out.dims[out.dim - 1] = {sides[1], ""};
        inference.output(0, out);
    }

    int64_t size[2] = {8, 8};
    int64_t size_count = 2;
};

}  // namespace opserve::ort_binding
