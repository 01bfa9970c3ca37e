// The gradients of opserve_ops/_autograd.py without Python between the operators: a step on a small graph
// costs little else. PyTorch's stable ABI has no autograd, so this library is for the one version of PyTorch
// in whose environment it was built, and stays there; archives never hold it.
#include <ATen/Context.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::compute_requires_grad;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Signature>
auto find(const char* name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

template <class Operator, class... Args>
auto call_below(const Operator& op, const Args&... args) {
    at::AutoDispatchBelowADInplaceOrView below;
    return op.call(args...);
}

Tensor given(const Tensor& gradient, bool needed) { return needed ? gradient : Tensor(); }

// Inputs in the order of the arguments; one that the call left out has no place in the graph.
class Needs {
  public:
    explicit Needs(const AutogradContext& context, size_t skip = 0) : context_(context), next_(skip) {}
    bool take(bool there = true) { return there && context_.needs_input_grad(next_++); }

  private:
    const AutogradContext& context_;
    size_t next_;
};

// What PyTorch does for those of its own operators that CUDA sums in the order in which threads come by.
void alert_not_deterministic(const char* op, const char* gradients, const Tensor& tensor) {
    if (!tensor.is_cuda() || !at::globalContext().deterministicAlgorithms()) return;
    const std::string message =
        std::string("opserve::") + op + ": the gradient of " + gradients +
        " has no deterministic implementation on CUDA, and torch.use_deterministic_algorithms(True) is set. "
        "Compute it on the CPU, or let it differ by roundings from call to call: "
        "use_deterministic_algorithms(True, warn_only=True)";
    TORCH_CHECK(at::globalContext().deterministicAlgorithmsWarnOnly(), message);
    TORCH_WARN(message);
}

class ScaledAdd : public torch::autograd::Function<ScaledAdd> {
  public:
    using Signature = Tensor(const Tensor&, const Tensor&, double);
    using BackwardSignature = std::tuple<Tensor, Tensor>(const Tensor&, double);

    static Tensor below(const Tensor& x, const Tensor& y, double alpha) {
        static const auto op = find<Signature>("opserve::scaled_add");
        return call_below(op, x, y, alpha);
    }

    // Without a gradient to come, a node would only be made to be thrown away.
    static Tensor call(const Tensor& x, const Tensor& y, double alpha) {
        return compute_requires_grad(x, y) ? apply(x, y, alpha) : below(x, y, alpha);
    }

    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& y, double alpha) {
        context->saved_data["alpha"] = alpha;
        return below(x, y, alpha);
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<BackwardSignature>("opserve::_scaled_add_backward");
        const auto [x, y] = op.call(grads[0], context->saved_data["alpha"].toDouble());
        return {x, y, Tensor()};
    }
};

class WarpPerspective : public torch::autograd::Function<WarpPerspective> {
  public:
    using Signature = Tensor(const Tensor&, const Tensor&, at::IntArrayRef);
    using BackwardSignature = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                         at::IntArrayRef, std::array<bool, 2>);

    static Tensor below(const Tensor& image, const Tensor& matrix, at::IntArrayRef size) {
        static const auto op = find<Signature>("opserve::warp_perspective");
        return call_below(op, image, matrix, size);
    }

    static Tensor call(const Tensor& image, const Tensor& matrix, at::IntArrayRef size) {
        return compute_requires_grad(image, matrix) ? apply(image, matrix, size) : below(image, matrix, size);
    }

    static Tensor forward(AutogradContext* context, const Tensor& image, const Tensor& matrix,
                          at::IntArrayRef size) {
        context->save_for_backward({image, matrix});
        context->saved_data["size"] = size;
        return below(image, matrix, size);
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<BackwardSignature>("opserve::_warp_perspective_backward");
        const variable_list saved = context->get_saved_variables();
        Needs needs(*context);
        const bool of_image = needs.take(), of_matrix = needs.take();
        if (of_image) alert_not_deterministic("warp_perspective", "image", grads[0]);
        const auto [image, matrix] = op.call(
            grads[0], saved[0], saved[1], context->saved_data["size"].toIntVector(), {of_image, of_matrix});
        return {given(image, of_image), given(matrix, of_matrix), Tensor()};
    }
};

class GraphConv : public torch::autograd::Function<GraphConv> {
  public:
    using Signature = Tensor(const Tensor&, const Tensor&, const Tensor&, const Optional&);
    using BackwardSignature = Four(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                   std::array<bool, 4>);

    static Tensor below(const Tensor& a, const Tensor& x, const Tensor& weight, const Optional& bias) {
        static const auto op = find<Signature>("opserve::graph_conv");
        return call_below(op, a, x, weight, bias);
    }

    static Tensor call(const Tensor& a, const Tensor& x, const Tensor& weight, const Optional& bias) {
        return compute_requires_grad(a, x, weight, bias) ? apply(a, x, weight, bias)
                                                         : below(a, x, weight, bias);
    }

    static Tensor forward(AutogradContext* context, const Tensor& a, const Tensor& x, const Tensor& weight,
                          const Optional& bias) {
        context->save_for_backward({a, x, weight});
        context->saved_data["biased"] = bias.has_value();
        return below(a, x, weight, bias);
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<BackwardSignature>("opserve::_graph_conv_backward");
        const variable_list saved = context->get_saved_variables();
        Needs needs(*context);
        const bool of_a = needs.take(), of_x = needs.take(), of_weight = needs.take();
        const bool of_bias = needs.take(context->saved_data["biased"].toBool());
        const auto [a, x, weight, bias] =
            op.call(grads[0], saved[0], saved[1], saved[2], {of_a, of_x, of_weight, of_bias});
        return {given(a, of_a), given(x, of_x), given(weight, of_weight), given(bias, of_bias)};
    }
};

class GraphConvCsr : public torch::autograd::Function<GraphConvCsr> {
  public:
    using Signature = Tensor(const Tensor&, const Tensor&, const Optional&, const Tensor&, const Tensor&,
                             const Optional&);
    using BackwardSignature = Four(const Tensor&, const Tensor&, const Tensor&, const Optional&,
                                   const Tensor&, const Tensor&, std::array<bool, 4>);

    static Tensor below(const Tensor& rowptr, const Tensor& col, const Optional& value, const Tensor& x,
                        const Tensor& weight, const Optional& bias) {
        static const auto op = find<Signature>("opserve::graph_conv_csr");
        return call_below(op, rowptr, col, value, x, weight, bias);
    }

    static Tensor call(const Tensor& rowptr, const Tensor& col, const Optional& value, const Tensor& x,
                       const Tensor& weight, const Optional& bias) {
        return compute_requires_grad(value, x, weight, bias) ? apply(rowptr, col, value, x, weight, bias)
                                                             : below(rowptr, col, value, x, weight, bias);
    }

    static Tensor forward(AutogradContext* context, const Tensor& rowptr, const Tensor& col,
                          const Optional& value, const Tensor& x, const Tensor& weight,
                          const Optional& bias) {
        context->save_for_backward({rowptr, col, value.value_or(Tensor()), x, weight});
        context->saved_data["biased"] = bias.has_value();
        return below(rowptr, col, value, x, weight, bias);
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        static const auto op = find<BackwardSignature>("opserve::_graph_conv_csr_backward");
        const variable_list saved = context->get_saved_variables();
        const Tensor &x = saved[3], &weight = saved[4];
        const Optional value = saved[2].defined() ? Optional(saved[2]) : std::nullopt;
        constexpr size_t indices = 2;
        Needs needs(*context, indices);
        const bool of_value = needs.take(value.has_value()), of_x = needs.take(), of_weight = needs.take();
        const bool of_bias = needs.take(context->saved_data["biased"].toBool());
        // The two that a product with the transposed matrix is for.
        if (of_x || (of_weight && weight.sym_size(1) <= weight.sym_size(0))) {
            alert_not_deterministic("graph_conv_csr", "x or weight", grads[0]);
        }
        const auto [grad_value, grad_x, grad_weight, grad_bias] =
            op.call(grads[0], saved[0], saved[1], value, x, weight, {of_value, of_x, of_weight, of_bias});
        return {Tensor(),
                Tensor(),
                given(grad_value, of_value),
                given(grad_x, of_x),
                given(grad_weight, of_weight),
                given(grad_bias, of_bias)};
    }
};

// The backward operators themselves have no gradients: a backward through one says so.
void without_gradient(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    variable_list inputs;
    if (at::GradMode::is_enabled()) {
        for (const c10::IValue& argument : torch::jit::last(stack, op.schema().arguments().size())) {
            if (argument.isTensor() && argument.toTensor().requires_grad()) {
                inputs.push_back(argument.toTensor());
            }
        }
    }
    {
        at::AutoDispatchBelowADInplaceOrView below;
        op.redispatchBoxed(keys & c10::after_autograd_keyset, stack);
    }
    if (inputs.empty()) return;
    const auto error = c10::make_intrusive<torch::autograd::Error>(
        op.schema().name() + ": gradients of gradients are not supported (a second backward)",
        torch::autograd::collect_next_edges(inputs));
    for (const c10::IValue& result : torch::jit::last(stack, op.schema().returns().size())) {
        torch::autograd::set_history(result.toTensor(), error);
    }
}

}  // namespace

TORCH_LIBRARY_IMPL(opserve, Autograd, library) {
    library.impl("scaled_add", TORCH_FN(ScaledAdd::call));
    library.impl("warp_perspective", TORCH_FN(WarpPerspective::call));
    library.impl("graph_conv", TORCH_FN(GraphConv::call));
    library.impl("graph_conv_csr", TORCH_FN(GraphConvCsr::call));
    for (const char* op : {"_scaled_add_backward", "_warp_perspective_backward", "_graph_conv_backward",
                           "_graph_conv_csr_backward"}) {
        library.impl(op, torch::CppFunction::makeFromBoxedFunction<&without_gradient>());
    }
}
