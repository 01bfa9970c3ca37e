#pragma once

#include "opserve/${name}.h"

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct ${Class} {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor x = take_tensor(stack[0]);

        const TensorArg x_arg = x.arg();
        ${Class}Params params{};
        params.scale = torch::stable::detail::to<double>(stack[1]);
        throw_if_error(check_${name}(x_arg, &params.${sizes}));
        params.dtype = x_arg.dtype;
        const typename Device::Execution execution(x);
        Tensor out = Tensor::empty(${out_sizes}, x.dtype(), x);
        params.x = x.${data};
        params.out = out.mutable_data();
        throw_if_error(OPSERVE_KERNEL(Device, ${name})(params, execution.get()));
        give_tensors(stack, std::move(out));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        Tensor x = take_tensor(stack[1]);

        const TensorArg x_arg = x.arg();
        ${Class}BackwardParams params{};
        params.scale = torch::stable::detail::to<double>(stack[2]);
        throw_if_error(check_${name}_backward(grad.arg(), x_arg, &params.${sizes}));
        params.dtype = x_arg.dtype;
        const typename Device::Execution execution(x);
        Gradient grad_x(x, true);
        params.grad = grad.contiguous_data();
        params.x = x.${data};
        params.grad_x = grad_x.pointer();
        throw_if_error(OPSERVE_KERNEL(Device, ${name}_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_x));
    }
};

}  // namespace opserve::torch_binding
