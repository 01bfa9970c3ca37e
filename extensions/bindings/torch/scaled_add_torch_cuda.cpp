#include "device.h"
#include "operators_cuda.h"
#include "opserve/scaled_add.h"

namespace opserve::torch_binding {

void scaled_add_cuda(StableIValue* stack, uint64_t, uint64_t) {
    Tensor x = take_tensor(stack[0]);
    Tensor y = take_tensor(stack[1]);
    const double alpha = torch::stable::detail::to<double>(stack[2]);

    const TensorArg x_arg = x.arg();
    ScaledAddParams params{};
    throw_if_error(check_scaled_add(x_arg, y.arg(), &params.numel));
    params.dtype = x_arg.dtype;
    params.alpha = alpha;
    const Device device(x_arg);
    Tensor z = Tensor::empty(x_arg.sizes, x_arg.dim, x.dtype(), x);
    x.make_contiguous();
    y.make_contiguous();
    params.x = x.data();
    params.y = y.data();
    params.z = z.mutable_data();
    throw_if_error(cuda::scaled_add(params, device.stream()));
    stack[0] = give_tensor(std::move(z));
}

void scaled_add_backward_cuda(StableIValue* stack, uint64_t, uint64_t) {
    Tensor grad = take_tensor(stack[0]);
    const double alpha = torch::stable::detail::to<double>(stack[1]);

    const TensorArg grad_arg = grad.arg();
    ScaledAddBackwardParams params{};
    throw_if_error(check_scaled_add_backward(grad_arg, &params.numel));
    params.dtype = grad_arg.dtype;
    params.alpha = alpha;
    const Device device(grad_arg);
    Tensor grad_x = gradient_of(grad, true), grad_y = gradient_of(grad, true);
    grad.make_contiguous();
    params.grad = grad.data();
    params.grad_x = grad_x.mutable_data();
    params.grad_y = grad_y.mutable_data();
    throw_if_error(cuda::scaled_add_backward(params, device.stream()));
    stack[0] = give_tensor(std::move(grad_x));
    stack[1] = give_tensor(std::move(grad_y));
}

}  // namespace opserve::torch_binding
