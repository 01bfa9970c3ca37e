#include <torch/csrc/stable/library.h>

#include <stdexcept>
#include <string>

#include "operators.h"
#include "opserve/cpu_capability.h"
#include "schemas.h"

namespace opserve::torch_binding {
namespace {

std::string cpu_capability() { return opserve::cpu_capability(); }

}  // namespace
}  // namespace opserve::torch_binding

// A fragment: PyTorch follows a null pointer where a namespace is defined twice, and only fails where an
// operator is.
STABLE_TORCH_LIBRARY_FRAGMENT(opserve, library) {
    try {
        for (const char* schema : opserve::torch_binding::kSchemas) library.def(schema);
    } catch (const std::exception&) {
        throw std::runtime_error(
            "opserve: its operators exist already: another copy of the library is loaded");
    }
}

STABLE_TORCH_LIBRARY_IMPL(opserve, CPU, library) {
    using namespace opserve::torch_binding;
    library.impl("scaled_add", &scaled_add_cpu);
    library.impl("graph_conv", &graph_conv_cpu);
    library.impl("graph_conv_csr", &graph_conv_csr_cpu);
    library.impl("warp_perspective", &warp_perspective_cpu);
    library.impl("_scaled_add_backward", &scaled_add_backward_cpu);
    library.impl("_warp_perspective_backward", &warp_perspective_backward_cpu);
    library.impl("check_csr", &check_csr_cpu);
}

// Without a tensor among the arguments there is no device to dispatch on.
STABLE_TORCH_LIBRARY_IMPL(opserve, CompositeExplicitAutograd, library) {
    library.impl("cpu_capability", TORCH_BOX(&opserve::torch_binding::cpu_capability));
}
