#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class GraphConv : public Differentiable<GraphConv, Tensor(const Tensor&, const Tensor&, const Tensor&,
                                                          const OptionalTensor&)> {
  public:
    static constexpr const char* kName = "opserve::graph_conv";
    using Backward = FourTensors(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                 std::array<bool, 4>);

    static void save(AutogradContext* context, const Tensor& a, const Tensor& x, const Tensor& weight,
                     const OptionalTensor& bias) {
        context->save_for_backward({a, x, weight});
        context->saved_data["biased"] = bias.has_value();
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<Backward>("opserve::_graph_conv_backward");
        const variable_list saved = context->get_saved_variables();
        OutputMask mask(*context);
        const bool of_a = mask.next(), of_x = mask.next(), of_weight = mask.next();
        const bool of_bias = mask.next(context->saved_data["biased"].toBool());
        const auto [a, x, weight, bias] =
            op.call(grads[0], saved[0], saved[1], saved[2], {of_a, of_x, of_weight, of_bias});
        return {gradient(a, of_a), gradient(x, of_x), gradient(weight, of_weight), gradient(bias, of_bias)};
    }
};

}  // namespace opserve::autograd_binding
