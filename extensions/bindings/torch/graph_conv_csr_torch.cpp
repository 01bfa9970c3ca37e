#include "opserve/graph_conv_csr.h"

#include "gradient.h"
#include "operators.h"
#include "tensor.h"

namespace opserve::torch_binding {

void graph_conv_csr_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor rowptr = take_tensor(stack[0]);
    Tensor col = take_tensor(stack[1]);
    Tensor value = take_optional_tensor(stack[2]);
    Tensor x = take_tensor(stack[3]);
    Tensor weight = take_tensor(stack[4]);
    Tensor bias = take_optional_tensor(stack[5]);

    const TensorArg rowptr_arg = rowptr.arg(), x_arg = x.arg();
    TensorArg value_arg, bias_arg;
    if (value) value_arg = value.arg();
    if (bias) bias_arg = bias.arg();
    GraphConvCsrParams params{};
    throw_if_error(check_graph_conv_csr(rowptr_arg, col.arg(), value ? &value_arg : nullptr, x_arg,
                                        weight.arg(), bias ? &bias_arg : nullptr, &params.sizes));
    params.dtype = x_arg.dtype;
    params.index_dtype = rowptr_arg.dtype;
    int64_t bytes = 0;
    throw_if_error(cpu::graph_conv_csr_workspace_size(params, &bytes));

    rowptr.make_contiguous();
    col.make_contiguous();
    if (value) value.make_contiguous();
    x.make_rows_contiguous();
    weight.make_rows_contiguous();
    if (bias) bias.make_contiguous();
    const int64_t sizes[] = {params.sizes.n, params.sizes.k};
    Tensor out = Tensor::empty(sizes, 2, x.dtype(), x);
    const Scratch scratch(bytes, x);
    params.rowptr = rowptr.data();
    params.col = col.data();
    params.value = value ? value.data() : nullptr;
    params.x = x.data();
    params.x_stride = x.strides()[0];
    params.weight = weight.data();
    params.weight_stride = weight.strides()[0];
    params.bias = bias ? bias.data() : nullptr;
    params.out = out.mutable_data();
    params.workspace = scratch.get();
    throw_if_error(cpu::graph_conv_csr(params, parallel_for()));
    stack[0] = give_tensor(std::move(out));
}

void graph_conv_csr_backward_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor grad = take_tensor(stack[0]);
    Tensor rowptr = take_tensor(stack[1]);
    Tensor col = take_tensor(stack[2]);
    Tensor value = take_optional_tensor(stack[3]);
    Tensor x = take_tensor(stack[4]);
    Tensor weight = take_tensor(stack[5]);
    std::vector<bool> needs = take_needs(stack[6], 4);

    const TensorArg rowptr_arg = rowptr.arg(), x_arg = x.arg();
    TensorArg value_arg;
    if (value) value_arg = value.arg();
    GraphConvCsrBackwardParams params{};
    throw_if_error(check_graph_conv_csr_backward(
        grad.arg(), rowptr_arg, col.arg(), value ? &value_arg : nullptr, x_arg, weight.arg(), &params.sizes));
    params.dtype = x_arg.dtype;
    params.index_dtype = rowptr_arg.dtype;
    // What is not there has no gradient.
    needs[0] = needs[0] && value;
    const int64_t value_size = needs[0] ? params.sizes.nnz : 0, bias_size = needs[3] ? params.sizes.k : 0;
    Tensor grad_value = Tensor::empty(&value_size, 1, x.dtype(), x), grad_x = gradient_of(x, needs[1]),
           grad_weight = gradient_of(weight, needs[2]),
           grad_bias = Tensor::empty(&bias_size, 1, x.dtype(), x);
    params.grad_value = data_of_gradient(grad_value, needs[0]);
    params.grad_x = data_of_gradient(grad_x, needs[1]);
    params.grad_weight = data_of_gradient(grad_weight, needs[2]);
    params.grad_bias = data_of_gradient(grad_bias, needs[3]);
    int64_t bytes = 0;
    throw_if_error(cpu::graph_conv_csr_backward_workspace_size(params, &bytes));

    grad.make_rows_contiguous();
    rowptr.make_contiguous();
    col.make_contiguous();
    if (value) value.make_contiguous();
    x.make_rows_contiguous();
    weight.make_rows_contiguous();
    const Scratch scratch(bytes, x);
    params.rowptr = rowptr.data();
    params.col = col.data();
    params.value = value ? value.data() : nullptr;
    params.grad = grad.data();
    params.grad_stride = grad.strides()[0];
    params.x = x.data();
    params.x_stride = x.strides()[0];
    params.weight = weight.data();
    params.weight_stride = weight.strides()[0];
    params.workspace = scratch.get();
    throw_if_error(cpu::graph_conv_csr_backward(params, parallel_for()));
    stack[0] = give_tensor(std::move(grad_value));
    stack[1] = give_tensor(std::move(grad_x));
    stack[2] = give_tensor(std::move(grad_weight));
    stack[3] = give_tensor(std::move(grad_bias));
}

}  // namespace opserve::torch_binding
