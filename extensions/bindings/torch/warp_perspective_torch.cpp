#include "opserve/warp_perspective.h"

#include <vector>

#include "gradient.h"
#include "operators.h"
#include "tensor.h"

namespace opserve::torch_binding {

void warp_perspective_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor image = take_tensor(stack[0]);
    Tensor matrix = take_tensor(stack[1]);
    const std::vector<int64_t> size = torch::stable::detail::to<std::vector<int64_t>>(stack[2]);

    const TensorArg image_arg = image.arg(), matrix_arg = matrix.arg();
    WarpPerspectiveParams params{};
    throw_if_error(check_warp_perspective(image_arg, matrix_arg, size.data(),
                                          static_cast<int64_t>(size.size()), &params.sizes));
    params.dtype = image_arg.dtype;
    params.matrix_dtype = matrix_arg.dtype;

    image.make_rows_contiguous();
    matrix.make_contiguous();
    const int64_t dim = image_arg.dim;
    int64_t sizes[4];
    for (int64_t axis = 0; axis < dim - 2; ++axis) sizes[axis] = image.sizes()[axis];
    sizes[dim - 2] = params.sizes.out_h;
    sizes[dim - 1] = params.sizes.out_w;
    Tensor out = Tensor::empty(sizes, dim, image.dtype(), image);
    const int64_t* strides = image.strides();
    params.image = image.data();
    params.image_stride_n = dim == 4 ? strides[0] : 0;
    params.image_stride_c = dim >= 3 ? strides[dim - 3] : 0;
    params.image_stride_h = strides[dim - 2];
    params.matrix = matrix.data();
    params.out = out.mutable_data();
    throw_if_error(cpu::warp_perspective(params, parallel_for()));
    stack[0] = give_tensor(std::move(out));
}

void warp_perspective_backward_cpu(StableIValue* stack, uint64_t, uint64_t) {
    Tensor grad = take_tensor(stack[0]);
    Tensor image = take_tensor(stack[1]);
    Tensor matrix = take_tensor(stack[2]);
    const std::vector<int64_t> size = torch::stable::detail::to<std::vector<int64_t>>(stack[3]);
    const std::vector<bool> needs = take_needs(stack[4], 2);

    const TensorArg image_arg = image.arg(), matrix_arg = matrix.arg();
    WarpPerspectiveBackwardParams params{};
    throw_if_error(check_warp_perspective_backward(grad.arg(), image_arg, matrix_arg, size.data(),
                                                   static_cast<int64_t>(size.size()), &params.sizes));
    params.dtype = image_arg.dtype;
    params.matrix_dtype = matrix_arg.dtype;
    Tensor grad_image = gradient_of(image, needs[0]), grad_matrix = gradient_of(matrix, needs[1]);
    params.grad_image = data_of_gradient(grad_image, needs[0]);
    params.grad_matrix = data_of_gradient(grad_matrix, needs[1]);
    int64_t bytes = 0;
    throw_if_error(cpu::warp_perspective_backward_workspace_size(params, &bytes));

    const int64_t dim = image_arg.dim;
    grad.make_contiguous();
    image.make_rows_contiguous();
    matrix.make_contiguous();
    const Scratch scratch(bytes, image);
    const int64_t* strides = image.strides();
    params.grad = grad.data();
    params.image = image.data();
    params.image_stride_n = dim == 4 ? strides[0] : 0;
    params.image_stride_c = dim >= 3 ? strides[dim - 3] : 0;
    params.image_stride_h = strides[dim - 2];
    params.matrix = matrix.data();
    params.workspace = scratch.get();
    throw_if_error(cpu::warp_perspective_backward(params, parallel_for()));
    stack[0] = give_tensor(std::move(grad_image));
    stack[1] = give_tensor(std::move(grad_matrix));
}

}  // namespace opserve::torch_binding
