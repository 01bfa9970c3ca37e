#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class ${Class} : public Differentiable<${Class}, Tensor(const Tensor&, double)> {
  public:
    static constexpr const char* kName = "opserve::${name}";

    static void save(AutogradContext* context, const Tensor& x, double scale) {
        context->save_for_backward({x});
        context->saved_data["scale"] = scale;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<Tensor(const Tensor&, const Tensor&, double)>("opserve::_${name}_backward");
        const variable_list saved = context->get_saved_variables();
        return {op.call(grads[0], saved[0], context->saved_data["scale"].toDouble()), Tensor()};
    }
};

}  // namespace opserve::autograd_binding
