#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class GcnNorm : public Differentiable<GcnNorm, std::tuple<Tensor, Tensor, Tensor>(
                                                   const Tensor&, const Tensor&, const Tensor&, double)> {
  public:
    static constexpr const char* kName = "opserve::gcn_norm";
    using Backward = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, double);

    static void save(AutogradContext* context, const Tensor& rowptr, const Tensor& col, const Tensor& value,
                     double fill_value) {
        context->save_for_backward({rowptr, col, value});
        context->saved_data["fill_value"] = fill_value;
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<Backward>("opserve::_gcn_norm_backward");
        const variable_list saved = context->get_saved_variables();
        // Of the results, only the weights have a gradient.
        const Tensor& grad = grads[2];
        // The sums over columns.
        alert_not_deterministic("gcn_norm", "value", grad);
        const double fill_value = context->saved_data["fill_value"].toDouble();
        return {Tensor(), Tensor(), op.call(grad, saved[0], saved[1], saved[2], fill_value), Tensor()};
    }
};

}  // namespace opserve::autograd_binding
