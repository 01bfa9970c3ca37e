#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class WarpPerspective
    : public Differentiable<WarpPerspective, Tensor(const Tensor&, const Tensor&, at::IntArrayRef)> {
  public:
    static constexpr const char* kName = "opserve::warp_perspective";
    using Backward = TwoTensors(const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef,
                                std::array<bool, 2>);

    static void save(AutogradContext* context, const Tensor& image, const Tensor& matrix,
                     at::IntArrayRef size) {
        context->save_for_backward({image, matrix});
        context->saved_data["size"] = size;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<Backward>("opserve::_warp_perspective_backward");
        const variable_list saved = context->get_saved_variables();
        OutputMask mask(*context);
        const bool of_image = mask.next(), of_matrix = mask.next();
        if (of_image) alert_not_deterministic("warp_perspective", "image", grads[0]);
        const auto [image, matrix] = op.call(
            grads[0], saved[0], saved[1], context->saved_data["size"].toIntVector(), {of_image, of_matrix});
        return {gradient(image, of_image), gradient(matrix, of_matrix), Tensor()};
    }
};

}  // namespace opserve::autograd_binding
