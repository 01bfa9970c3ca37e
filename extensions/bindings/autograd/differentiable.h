// What the gradients of all operators share. They are those of opserve_ops/_autograd.py without Python
// between the operators.
#pragma once

#include <ATen/Context.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

namespace opserve::autograd_binding {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;
using TwoTensors = std::tuple<Tensor, Tensor>;
using FourTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Signature>
auto find(const char* name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

inline bool requires_grad(const Tensor& tensor) { return tensor.requires_grad(); }
inline bool requires_grad(const OptionalTensor& tensor) { return tensor && tensor->requires_grad(); }
template <class Number>
bool requires_grad(const Number&) {
    return false;
}

// An operator with gradients. `Op` has kName, its full name; save(context, arguments...), which keeps what
// its backward takes; and backward, as torch::autograd::Function wants it. `Result` is a tensor or a tuple of
// them.
template <class Op, class Signature>
class Differentiable;

template <class Op, class Result, class... Args>
class Differentiable<Op, Result(Args...)> : public torch::autograd::Function<Op> {
  public:
    static Result call(Args... args) {
        // Without a gradient to come, a node would only be made to be thrown away.
        if (!at::GradMode::is_enabled() || !(requires_grad(args) || ...)) return call_below(args...);
        if constexpr (std::is_same_v<Result, Tensor>) {
            return Op::apply(args...);
        } else {
            const variable_list list = Op::apply(args...);
            Result results;
            size_t index = 0;
            std::apply([&](auto&... result) { ((result = list[index++]), ...); }, results);
            return results;
        }
    }

    static auto forward(AutogradContext* context, Args... args) {
        Op::save(context, args...);
        if constexpr (std::is_same_v<Result, Tensor>) {
            return call_below(args...);
        } else {
            return std::apply([](const auto&... result) { return variable_list{result...}; },
                              call_below(args...));
        }
    }

  private:
    static Result call_below(Args... args) {
        static const auto op = find<Result(Args...)>(Op::kName);
        at::AutoDispatchBelowADInplaceOrView below;
        return op.call(args...);
    }
};

// The gradient of an argument, or none where it is not needed.
inline Tensor gradient(const Tensor& gradient, bool needed) { return needed ? gradient : Tensor(); }

// Which gradients are needed, in the order of the arguments; one that the call left out has no place in the
// graph.
class OutputMask {
  public:
    explicit OutputMask(const AutogradContext& context, size_t skip = 0) : context_(context), next_(skip) {}
    bool next(bool present = true) { return present && context_.needs_input_grad(next_++); }

  private:
    const AutogradContext& context_;
    size_t next_;
};

// Does what PyTorch does for its own operators whose gradients CUDA sums in the order in which threads come.
inline void alert_not_deterministic(const char* op, const char* gradients, const Tensor& tensor) {
    if (!tensor.is_cuda() || !at::globalContext().deterministicAlgorithms()) return;
    const std::string message =
        std::string("opserve::") + op + ": the gradient of " + gradients +
        " has no deterministic implementation on CUDA, and torch.use_deterministic_algorithms(True) is set. "
        "Compute it on the CPU, or let it differ by roundings from call to call: "
        "use_deterministic_algorithms(True, warn_only=True)";
    TORCH_CHECK(at::globalContext().deterministicAlgorithmsWarnOnly(), message);
    TORCH_WARN(message);
}

}  // namespace opserve::autograd_binding
