#pragma once

#include "opserve/${name}.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// ${Class}(x; scale FLOAT = 1, scale_f64 TENSOR, optional) -> out
struct ${Class} {
    static constexpr const char* kName = "${Class}";
    static constexpr const char* kOp = "${name}";
    static constexpr InputSpec kInputs[] = {{"x"}};
    static constexpr size_t kTypedInput = 0;
    static constexpr size_t kOutputs[] = {0};

    OrtStatus* read(const OrtApi&, const Attributes& attributes, DType) {
        return attributes.number(kOp, "scale", "scale_f64", &scale);
    }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input x;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&x));
        ${Class}Params params{};
        OPSERVE_ORT_RETURN_IF_ERROR(call.status(check_${name}(x.arg, &params.sizes)));
        params.dtype = x.arg.dtype;
        params.scale = scale;
        params.x = x.data;
        params.x_stride = x.stride(0);
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(0, &params.sizes.n, 1, &params.out));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(OPSERVE_KERNEL(Device, ${name})(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        Shape out = inference.input(0);
        out.dims[0] = out.at(0, 2);
        out.dim = 1;
        inference.output(0, out);
    }

    double scale = 1.0;
};

}  // namespace opserve::ort_binding
