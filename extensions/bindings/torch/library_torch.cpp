#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "operators.h"
#include "opserve/built_for.h"
#include "opserve/cpu_capability.h"

namespace opserve::torch_binding {
namespace {

std::string cpu_capability() { return opserve::cpu_capability(); }

}  // namespace
}  // namespace opserve::torch_binding

OPSERVE_BUILT_FOR(kTorchStableAbi, TORCH_TARGET_VERSION >> 56, TORCH_TARGET_VERSION >> 48 & 0xff)

// Static initializers run in order of definition: the implementations below see the outcome of the
// definitions.
static bool first_copy = false;

// A process may load two copies of this library: one from an archive, one from the Python package. The first
// one serves; PyTorch would abort the process over a second definition. A fragment, because PyTorch
// dereferences null when a namespace is defined twice, but reports an error when an operator is.
STABLE_TORCH_LIBRARY_FRAGMENT(opserve, library) {
    try {
        opserve::torch_binding::define_operators(library);
        library.def("cpu_capability() -> str");
        first_copy = true;
    } catch (const std::exception&) {
    }
}

STABLE_TORCH_LIBRARY_IMPL(opserve, CPU, library) {
    if (first_copy) opserve::torch_binding::implement_operators<opserve::torch_binding::Cpu>(library);
}

// Without a tensor argument there is no device to dispatch on.
STABLE_TORCH_LIBRARY_IMPL(opserve, CompositeExplicitAutograd, library) {
    if (first_copy) library.impl("cpu_capability", TORCH_BOX(&opserve::torch_binding::cpu_capability));
}
