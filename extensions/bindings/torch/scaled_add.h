#pragma once

#include "opserve/scaled_add.h"

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct ScaledAdd {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor x = take_tensor(stack[0]);
        Tensor y = take_tensor(stack[1]);
        const double alpha = torch::stable::detail::to<double>(stack[2]);

        const TensorArg x_arg = x.arg();
        ScaledAddParams params{};
        throw_if_error(check_scaled_add(x_arg, y.arg(), &params.numel));
        params.dtype = x_arg.dtype;
        params.alpha = alpha;
        const typename Device::Execution execution(x);
        Tensor z = Tensor::empty(x_arg.sizes, x_arg.dim, x.dtype(), x);
        params.x = x.contiguous_data();
        params.y = y.contiguous_data();
        params.z = z.mutable_data();
        throw_if_error(OPSERVE_KERNEL(Device, scaled_add)(params, execution.get()));
        give_tensors(stack, std::move(z));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        const double alpha = torch::stable::detail::to<double>(stack[1]);

        const TensorArg grad_arg = grad.arg();
        ScaledAddBackwardParams params{};
        throw_if_error(check_scaled_add_backward(grad_arg, &params.numel));
        params.dtype = grad_arg.dtype;
        params.alpha = alpha;
        const typename Device::Execution execution(grad);
        Gradient grad_x(grad, true), grad_y(grad, true);
        params.grad = grad.contiguous_data();
        params.grad_x = grad_x.pointer();
        params.grad_y = grad_y.pointer();
        throw_if_error(OPSERVE_KERNEL(Device, scaled_add_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_x), std::move(grad_y));
    }
};

}  // namespace opserve::torch_binding
