#include "opserve/graph_conv.h"

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

}  // namespace opserve::torch_binding
