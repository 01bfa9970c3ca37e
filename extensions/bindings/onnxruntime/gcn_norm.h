#pragma once

#include "opserve/gcn_norm.h"

#include "attributes.h"
#include "kernel_call.h"
#include "opserve/kernel.h"
#include "shapes.h"

namespace opserve::ort_binding {

// GCNNorm(rowptr, col, value; fill_value FLOAT = 1, fill_value_f64 TENSOR, optional)
//     -> out_rowptr, out_col, out_value
struct GcnNorm {
    static constexpr const char* kName = "GCNNorm";
    static constexpr const char* kOp = "gcn_norm";
    static constexpr InputSpec kInputs[] = {{"rowptr"}, {"col"}, {"value"}};
    static constexpr size_t kTypedInput = 2;
    static constexpr size_t kOutputs[] = {0, 0, 2};

    OrtStatus* read(const OrtApi&, const Attributes& attributes, DType) {
        return attributes.number(kOp, "fill_value", "fill_value_f64", &fill_value);
    }

    template <class Device>
    OrtStatus* compute(KernelCall& call) const {
        Input rowptr, col, value;
        OPSERVE_ORT_RETURN_IF_ERROR(call.inputs(&rowptr, &col, &value));
        GcnNormParams params{};
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(check_gcn_norm(rowptr.arg, col.arg, value.arg, &params.sizes)));
        params.dtype = value.arg.dtype;
        params.index_dtype = rowptr.arg.dtype;
        params.fill_value = fill_value;
        int64_t bytes = 0;
        OPSERVE_ORT_RETURN_IF_ERROR(
            call.status(OPSERVE_KERNEL(Device, gcn_norm_workspace_size)(params, &bytes)));
        params.rowptr = rowptr.data;
        params.col = col.data;
        params.value = value.data;
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(0, rowptr.sizes, 1, &params.out_rowptr));
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(1, &params.sizes.out_nnz, 1, &params.out_col));
        OPSERVE_ORT_RETURN_IF_ERROR(call.output(2, &params.sizes.out_nnz, 1, &params.out_value));
        typename Device::Workspace workspace(call);
        OPSERVE_ORT_RETURN_IF_ERROR(workspace.allocate(bytes, &params.workspace));
        typename Device::Execution execution(call);
        OPSERVE_ORT_RETURN_IF_ERROR(execution.start());
        return call.status(OPSERVE_KERNEL(Device, gcn_norm)(params, execution.get()));
    }

    static void infer(const ShapeInference& inference) {
        const Shape rowptr = inference.input(0), col = inference.input(1), value = inference.input(2);
        Shape out_value;
        out_value.type = value.type;
        out_value.dim = 1;
        const Dim rows = rowptr.at(0, 1), nnz = col.at(0, 1).or_else(value.at(0, 1));
        // A sum of named sizes has no name.
        if (rows.size > 0 && nnz.size >= 0) out_value.dims[0] = {nnz.size + rows.size - 1, ""};
        Shape out_col = out_value;
        out_col.type = rowptr.type;
        if (rowptr.dim == 1) inference.output(0, rowptr);
        inference.output(1, out_col);
        inference.output(2, out_value);
    }

    double fill_value = 1.0;
};

}  // namespace opserve::ort_binding
