#pragma once

#include "opserve/warp_perspective.h"

#include <vector>

#include "gradient.h"
#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct WarpPerspective {
    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor image = take_tensor(stack[0]);
        Tensor matrix = take_tensor(stack[1]);
        const auto size = torch::stable::detail::to<std::vector<int64_t>>(stack[2]);

        const TensorArg image_arg = image.arg(), matrix_arg = matrix.arg();
        WarpPerspectiveParams params{};
        throw_if_error(check_warp_perspective(image_arg, matrix_arg, size.data(),
                                              static_cast<int64_t>(size.size()), &params.sizes));
        params.dtype = image_arg.dtype;
        params.matrix_dtype = matrix_arg.dtype;

        const typename Device::Execution execution(image);
        set_image(image, &params);
        params.matrix = matrix.contiguous_data();
        const int64_t dim = image_arg.dim;
        int64_t sizes[4];
        for (int64_t axis = 0; axis < dim - 2; ++axis) sizes[axis] = image.sizes()[axis];
        sizes[dim - 2] = params.sizes.out_h;
        sizes[dim - 1] = params.sizes.out_w;
        Tensor out = Tensor::empty(sizes, dim, image.dtype(), image);
        params.out = out.mutable_data();
        throw_if_error(OPSERVE_KERNEL(Device, warp_perspective)(params, execution.get()));
        give_tensors(stack, std::move(out));
    }

    template <class Device>
    static void backward(StableIValue* stack) {
        Tensor grad = take_tensor(stack[0]);
        Tensor image = take_tensor(stack[1]);
        Tensor matrix = take_tensor(stack[2]);
        const auto size = torch::stable::detail::to<std::vector<int64_t>>(stack[3]);
        const std::vector<bool> output_mask = take_output_mask(stack[4], 2);

        const TensorArg image_arg = image.arg(), matrix_arg = matrix.arg();
        WarpPerspectiveBackwardParams params{};
        throw_if_error(check_warp_perspective_backward(grad.arg(), image_arg, matrix_arg, size.data(),
                                                       static_cast<int64_t>(size.size()), &params.sizes));
        params.dtype = image_arg.dtype;
        params.matrix_dtype = matrix_arg.dtype;
        const typename Device::Execution execution(image);
        Gradient grad_image(image, output_mask[0]), grad_matrix(matrix, output_mask[1]);
        params.grad_image = grad_image.pointer();
        params.grad_matrix = grad_matrix.pointer();
        int64_t bytes = 0;
        throw_if_error(OPSERVE_KERNEL(Device, warp_perspective_backward_workspace_size)(params, &bytes));

        params.grad = grad.contiguous_data();
        set_image(image, &params);
        params.matrix = matrix.contiguous_data();
        const typename Device::Workspace workspace(bytes, image);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, warp_perspective_backward)(params, execution.get()));
        give_tensors(stack, std::move(grad_image), std::move(grad_matrix));
    }

  private:
    template <class Params>
    static void set_image(Tensor& image, Params* params) {
        image.make_rows_contiguous();
        const int64_t dim = image.dim();
        const int64_t* strides = image.strides();
        params->image = image.data();
        params->image_stride_n = dim == 4 ? strides[0] : 0;
        params->image_stride_c = dim >= 3 ? strides[dim - 3] : 0;
        params->image_stride_h = strides[dim - 2];
    }
};

}  // namespace opserve::torch_binding
