#pragma once

#include "opserve/gcn_norm.h"

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct GcnNorm {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor rowptr = take_tensor(stack[0]);
        Tensor col = take_tensor(stack[1]);
        Tensor value = take_tensor(stack[2]);

        const TensorArg rowptr_arg = rowptr.arg(), value_arg = value.arg();
        GcnNormParams params{};
        params.fill_value = torch::stable::detail::to<double>(stack[3]);
        throw_if_error(check_gcn_norm(rowptr_arg, col.arg(), value_arg, &params.sizes));
        params.dtype = value_arg.dtype;
        params.index_dtype = rowptr_arg.dtype;
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, gcn_norm_workspace_size)(params, &bytes));

        const typename Device::Execution execution(value);
        params.rowptr = rowptr.contiguous_data();
        params.col = col.contiguous_data();
        params.value = value.contiguous_data();
        Tensor out_rowptr = Tensor::empty(rowptr_arg.sizes, 1, rowptr.dtype(), value);
        Tensor out_col = Tensor::empty(&params.sizes.out_nnz, 1, col.dtype(), value);
        Tensor out_value = Tensor::empty(&params.sizes.out_nnz, 1, value.dtype(), value);
        params.out_rowptr = out_rowptr.mutable_data();
        params.out_col = out_col.mutable_data();
        params.out_value = out_value.mutable_data();
        const typename Device::Workspace workspace(bytes, value);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, gcn_norm)(params, execution.get()));
        give_tensors(stack, std::move(out_rowptr), std::move(out_col), std::move(out_value));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        Tensor rowptr = take_tensor(stack[1]);
        Tensor col = take_tensor(stack[2]);
        Tensor value = take_tensor(stack[3]);

        const TensorArg rowptr_arg = rowptr.arg(), value_arg = value.arg();
        GcnNormBackwardParams params{};
        params.fill_value = torch::stable::detail::to<double>(stack[4]);
        throw_if_error(check_gcn_norm_backward(grad.arg(), rowptr_arg, col.arg(), value_arg, &params.sizes));
        params.dtype = value_arg.dtype;
        params.index_dtype = rowptr_arg.dtype;
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, gcn_norm_backward_workspace_size)(params, &bytes));

        const typename Device::Execution execution(value);
        Gradient grad_value(value, true);
        params.grad = grad.contiguous_data();
        params.rowptr = rowptr.contiguous_data();
        params.col = col.contiguous_data();
        params.value = value.contiguous_data();
        params.grad_value = grad_value.pointer();
        const typename Device::Workspace workspace(bytes, value);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, gcn_norm_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_value));
    }
};

}  // namespace opserve::torch_binding
