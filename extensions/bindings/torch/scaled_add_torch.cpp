#include "opserve/scaled_add.h"

#include "operators.h"
#include "tensor.h"

namespace opserve::torch_binding {

void scaled_add_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor x = take_tensor(stack[0]);
    Tensor y = take_tensor(stack[1]);
    const double alpha = torch::stable::detail::to<double>(stack[2]);

    const TensorArg x_arg = x.arg();
    ScaledAddParams params{};
    throw_if_error(check_scaled_add(x_arg, y.arg(), &params.numel));
    params.dtype = x_arg.dtype;
    params.alpha = alpha;
    Tensor z = Tensor::empty(x_arg.sizes, x_arg.dim, x.dtype(), x);
    x.make_contiguous();
    y.make_contiguous();
    params.x = x.data();
    params.y = y.data();
    params.z = z.mutable_data();
    throw_if_error(cpu::scaled_add(params, parallel_for()));
    stack[0] = give_tensor(std::move(z));
}

}  // namespace opserve::torch_binding
