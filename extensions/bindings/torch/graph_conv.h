#pragma once

#include "opserve/graph_conv.h"

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct GraphConv {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor a = take_tensor(stack[0]);
        Tensor x = take_tensor(stack[1]);
        Tensor weight = take_tensor(stack[2]);
        Tensor bias = take_optional_tensor(stack[3]);

        const TensorArg x_arg = x.arg();
        GraphConvParams params{};
        throw_if_error(check_graph_conv(a.arg(), x_arg, weight.arg(), OptionalArg(bias), &params.sizes));
        params.dtype = x_arg.dtype;
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_workspace_size)(params, &bytes));

        const typename Device::Execution execution(x);
        params.a = a.matrix_data(&params.a_stride);
        params.x = x.matrix_data(&params.x_stride);
        params.weight = weight.matrix_data(&params.weight_stride);
        params.bias = bias.contiguous_data();
        const int64_t sizes[] = {params.sizes.n, params.sizes.k};
        Tensor out = Tensor::empty(sizes, 2, x.dtype(), x);
        params.out = out.mutable_data();
        const typename Device::Workspace workspace(bytes, x);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv)(params, execution.get()));
        give_tensors(stack, std::move(out));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        Tensor a = take_tensor(stack[1]);
        Tensor x = take_tensor(stack[2]);
        Tensor weight = take_tensor(stack[3]);
        const std::vector<bool> output_mask = take_output_mask(stack[4], 4);

        const TensorArg x_arg = x.arg();
        GraphConvBackwardParams params{};
        throw_if_error(check_graph_conv_backward(grad.arg(), a.arg(), x_arg, weight.arg(), &params.sizes));
        params.dtype = x_arg.dtype;
        const typename Device::Execution execution(x);
        Gradient grad_a(a, output_mask[0]), grad_x(x, output_mask[1]), grad_weight(weight, output_mask[2]),
            grad_bias(params.sizes.k, x, output_mask[3]);
        params.grad_a = grad_a.pointer();
        params.grad_x = grad_x.pointer();
        params.grad_weight = grad_weight.pointer();
        params.grad_bias = grad_bias.pointer();
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_backward_workspace_size)(params, &bytes));

        params.grad = grad.matrix_data(&params.grad_stride);
        params.a = a.matrix_data(&params.a_stride);
        params.x = x.matrix_data(&params.x_stride);
        params.weight = weight.matrix_data(&params.weight_stride);
        const typename Device::Workspace workspace(bytes, x);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, graph_conv_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_a), std::move(grad_x), std::move(grad_weight),
                     std::move(grad_bias));
    }
};

}  // namespace opserve::torch_binding
