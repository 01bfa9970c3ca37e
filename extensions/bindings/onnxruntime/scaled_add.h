#pragma once

#include "opserve/scaled_add.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// ScaledAdd(x, y; alpha FLOAT = 2, alpha_f64 TENSOR, optional) -> z
struct ScaledAdd {
    static constexpr const char* kName = "ScaledAdd";
    static constexpr const char* kOp = "scaled_add";
    static constexpr InputSpec kInputs[] = {{"x"}, {"y"}};
    // The input that is of a floating-point type, and for each result the input whose type it has.
    static constexpr size_t kTypedInput = 0;
    static constexpr size_t kOutputs[] = {0};

    OrtStatus* read(const OrtApi&, const Attributes& attributes, DType) {
        return attributes.number(kOp, "alpha", "alpha_f64", &alpha);
    }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input x, y;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&x, &y));
        ScaledAddParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(check_scaled_add(x.arg, y.arg, &params.numel)));
        params.dtype = x.arg.dtype;
        params.alpha = alpha;
        params.x = x.data;
        params.y = y.data;
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(0, x.sizes, x.arg.dim, &params.z));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(OPSERVE_KERNEL(Device, scaled_add)(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        Shape x = inference.input(0);
        const Shape y = inference.input(1);
        if (!x.known()) return;
        for (int64_t i = 0; y.dim == x.dim && i < x.dim; ++i) x.dims[i] = x.dims[i].or_else(y.dims[i]);
        inference.output(0, x);
    }

    double alpha = 2.0;
};

}  // namespace opserve::ort_binding
