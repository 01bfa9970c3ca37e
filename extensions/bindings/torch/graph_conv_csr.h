#pragma once

#include "opserve/graph_conv_csr.h"

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct GraphConvCsr {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor rowptr = take_tensor(stack[0]);
        Tensor col = take_tensor(stack[1]);
        Tensor value = take_optional_tensor(stack[2]);
        Tensor x = take_tensor(stack[3]);
        Tensor weight = take_tensor(stack[4]);
        Tensor bias = take_optional_tensor(stack[5]);

        const TensorArg rowptr_arg = rowptr.arg(), x_arg = x.arg();
        GraphConvCsrParams params{};
        throw_if_error(check_graph_conv_csr(rowptr_arg, col.arg(), OptionalArg(value), x_arg, weight.arg(),
                                            OptionalArg(bias), &params.sizes));
        params.dtype = x_arg.dtype;
        params.index_dtype = rowptr_arg.dtype;
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_csr_workspace_size)(params, &bytes));

        const typename Device::Execution execution(x);
        params.rowptr = rowptr.contiguous_data();
        params.col = col.contiguous_data();
        params.value = value.contiguous_data();
        params.x = x.matrix_data(&params.x_stride);
        params.weight = weight.matrix_data(&params.weight_stride);
        params.bias = bias.contiguous_data();
        const int64_t sizes[] = {params.sizes.n, params.sizes.k};
        Tensor out = Tensor::empty(sizes, 2, x.dtype(), x);
        params.out = out.mutable_data();
        const typename Device::Workspace workspace(bytes, x);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_csr)(params, execution.get()));
        give_tensors(stack, std::move(out));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        Tensor rowptr = take_tensor(stack[1]);
        Tensor col = take_tensor(stack[2]);
        Tensor value = take_optional_tensor(stack[3]);
        Tensor x = take_tensor(stack[4]);
        Tensor weight = take_tensor(stack[5]);
        const std::vector<bool> output_mask = take_output_mask(stack[6], 4);

        const TensorArg rowptr_arg = rowptr.arg(), x_arg = x.arg();
        GraphConvCsrBackwardParams params{};
        throw_if_error(check_graph_conv_csr_backward(grad.arg(), rowptr_arg, col.arg(), OptionalArg(value),
                                                     x_arg, weight.arg(), &params.sizes));
        params.dtype = x_arg.dtype;
        params.index_dtype = rowptr_arg.dtype;
        const typename Device::Execution execution(x);
        // A value that was left out has no gradient.
        Gradient grad_value(params.sizes.nnz, x, output_mask[0] && value), grad_x(x, output_mask[1]),
            grad_weight(weight, output_mask[2]), grad_bias(params.sizes.k, x, output_mask[3]);
        params.grad_value = grad_value.pointer();
        params.grad_x = grad_x.pointer();
        params.grad_weight = grad_weight.pointer();
        params.grad_bias = grad_bias.pointer();
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_csr_backward_workspace_size)(params, &bytes));

        params.rowptr = rowptr.contiguous_data();
        params.col = col.contiguous_data();
        params.value = value.contiguous_data();
        params.grad = grad.matrix_data(&params.grad_stride);
        params.x = x.matrix_data(&params.x_stride);
        params.weight = weight.matrix_data(&params.weight_stride);
        const typename Device::Workspace workspace(bytes, x);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_csr_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_value), std::move(grad_x), std::move(grad_weight),
                     std::move(grad_bias));
    }
};

}  // namespace opserve::torch_binding
