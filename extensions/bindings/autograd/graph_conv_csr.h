#pragma once

#include "differentiable.h"

namespace opserve::autograd_binding {

class GraphConvCsr
    : public Differentiable<GraphConvCsr, Tensor(const Tensor&, const Tensor&, const OptionalTensor&,
                                                 const Tensor&, const Tensor&, const OptionalTensor&)> {
  public:
    static constexpr const char* kName = "opserve::graph_conv_csr";
    using Backward = FourTensors(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                                 const Tensor&, const Tensor&, std::array<bool, 4>);

    static void save(AutogradContext* context, const Tensor& rowptr, const Tensor& col,
                     const OptionalTensor& value, const Tensor& x, const Tensor& weight,
                     const OptionalTensor& bias) {
        context->save_for_backward({rowptr, col, value.value_or(Tensor()), x, weight});
        context->saved_data["biased"] = bias.has_value();
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<Backward>("opserve::_graph_conv_csr_backward");
        const variable_list saved = context->get_saved_variables();
        const Tensor &x = saved[3], &weight = saved[4];
        const OptionalTensor value = saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt;
        constexpr size_t indices = 2;
        OutputMask mask(*context, indices);
        const bool of_value = mask.next(value.has_value()), of_x = mask.next(), of_weight = mask.next();
        const bool of_bias = mask.next(context->saved_data["biased"].toBool());
        // The two that a product with the transposed matrix is for.
        if (of_x || (of_weight && weight.sym_size(1) <= weight.sym_size(0))) {
            alert_not_deterministic("graph_conv_csr", "x or weight", grads[0]);
        }
        const auto [grad_value, grad_x, grad_weight, grad_bias] =
            op.call(grads[0], saved[0], saved[1], value, x, weight, {of_value, of_x, of_weight, of_bias});
        return {Tensor(),
                Tensor(),
                gradient(grad_value, of_value),
                gradient(grad_x, of_x),
                gradient(grad_weight, of_weight),
                gradient(grad_bias, of_bias)};
    }
};

}  // namespace opserve::autograd_binding
