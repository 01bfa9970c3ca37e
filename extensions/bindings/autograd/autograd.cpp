// The gradients of the operators, registered in C++: a step on a small graph would otherwise spend most of
// its time in Python. PyTorch's stable ABI has no autograd, so this library is for the one version of PyTorch
// in whose environment it was built, and stays there; archives never hold it.
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include "gcn_norm.h"
#include "graph_conv.h"
#include "graph_conv_csr.h"
#include "opserve/operators.h"
#include "scaled_add.h"
#include "warp_perspective.h"

namespace opserve::autograd_binding {
namespace {

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
}  // namespace opserve::autograd_binding

TORCH_LIBRARY_IMPL(opserve, Autograd, library) {
    using namespace opserve::autograd_binding;
#define OPSERVE_REGISTER(Operator, name, schema, backward_schema) \
    library.impl(#name, TORCH_FN(Operator::call));                \
    library.impl("_" #name "_backward", torch::CppFunction::makeFromBoxedFunction<&without_gradient>());
    OPSERVE_OPERATORS(OPSERVE_REGISTER)
#undef OPSERVE_REGISTER
}
