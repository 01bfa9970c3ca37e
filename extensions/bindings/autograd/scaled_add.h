#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class ScaledAdd : public Differentiable<ScaledAdd, Tensor(const Tensor&, const Tensor&, double)> {
  public:
    static constexpr const char* kName = "opserve::scaled_add";

    static void save(AutogradContext* context, const Tensor&, const Tensor&, double alpha) {
        context->saved_data["alpha"] = alpha;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<TwoTensors(const Tensor&, double)>("opserve::_scaled_add_backward");
        const auto [x, y] = op.call(grads[0], context->saved_data["alpha"].toDouble());
        return {x, y, Tensor()};
    }
};

}  // namespace opserve::autograd_binding
