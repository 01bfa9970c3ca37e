#include "opserve/graph_conv.h"

#include "gradient.h"
#include "operators.h"
#include "tensor.h"

namespace opserve::torch_binding {

void graph_conv_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor a = take_tensor(stack[0]);
    Tensor x = take_tensor(stack[1]);
    Tensor weight = take_tensor(stack[2]);
    Tensor bias = take_optional_tensor(stack[3]);

    const TensorArg x_arg = x.arg();
    TensorArg bias_arg;
    if (bias) bias_arg = bias.arg();
    GraphConvParams params{};
    throw_if_error(check_graph_conv(a.arg(), x_arg, weight.arg(), bias ? &bias_arg : nullptr, &params.sizes));
    params.dtype = x_arg.dtype;
    int64_t bytes = 0;
    throw_if_error(cpu::graph_conv_workspace_size(params, &bytes));

    a.make_rows_contiguous();
    x.make_rows_contiguous();
    weight.make_rows_contiguous();
    if (bias) bias.make_contiguous();
    const int64_t sizes[] = {params.sizes.n, params.sizes.k};
    Tensor out = Tensor::empty(sizes, 2, x.dtype(), x);
    const Scratch scratch(bytes, x);
    params.a = a.data();
    params.a_stride = a.strides()[0];
    params.x = x.data();
    params.x_stride = x.strides()[0];
    params.weight = weight.data();
    params.weight_stride = weight.strides()[0];
    params.bias = bias ? bias.data() : nullptr;
    params.out = out.mutable_data();
    params.workspace = scratch.get();
    throw_if_error(cpu::graph_conv(params, parallel_for()));
    stack[0] = give_tensor(std::move(out));
}

void graph_conv_backward_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor grad = take_tensor(stack[0]);
    Tensor a = take_tensor(stack[1]);
    Tensor x = take_tensor(stack[2]);
    Tensor weight = take_tensor(stack[3]);
    const std::vector<bool> needs = take_needs(stack[4], 4);

    const TensorArg x_arg = x.arg();
    GraphConvBackwardParams params{};
    throw_if_error(check_graph_conv_backward(grad.arg(), a.arg(), x_arg, weight.arg(), &params.sizes));
    params.dtype = x_arg.dtype;
    Tensor grad_a = gradient_of(a, needs[0]), grad_x = gradient_of(x, needs[1]),
           grad_weight = gradient_of(weight, needs[2]);
    const int64_t bias_size = needs[3] ? params.sizes.k : 0;
    Tensor grad_bias = Tensor::empty(&bias_size, 1, x.dtype(), x);
    params.grad_a = data_of_gradient(grad_a, needs[0]);
    params.grad_x = data_of_gradient(grad_x, needs[1]);
    params.grad_weight = data_of_gradient(grad_weight, needs[2]);
    params.grad_bias = data_of_gradient(grad_bias, needs[3]);
    int64_t bytes = 0;
    throw_if_error(cpu::graph_conv_backward_workspace_size(params, &bytes));

    grad.make_rows_contiguous();
    a.make_rows_contiguous();
    x.make_rows_contiguous();
    weight.make_rows_contiguous();
    const Scratch scratch(bytes, x);
    params.grad = grad.data();
    params.grad_stride = grad.strides()[0];
    params.a = a.data();
    params.a_stride = a.strides()[0];
    params.x = x.data();
    params.x_stride = x.strides()[0];
    params.weight = weight.data();
    params.weight_stride = weight.strides()[0];
    params.workspace = scratch.get();
    throw_if_error(cpu::graph_conv_backward(params, parallel_for()));
    stack[0] = give_tensor(std::move(grad_a));
    stack[1] = give_tensor(std::move(grad_x));
    stack[2] = give_tensor(std::move(grad_weight));
    stack[3] = give_tensor(std::move(grad_bias));
}

}  // namespace opserve::torch_binding
