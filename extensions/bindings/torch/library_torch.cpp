#include <torch/csrc/stable/library.h>

#include <string>

#include "operators.h"
#include "opserve/cpu_capability.h"
#include "schemas.h"

namespace opserve::torch_binding {
namespace {

std::string cpu_capability() { return opserve::cpu_capability(); }

}  // namespace
}  // namespace opserve::torch_binding

STABLE_TORCH_LIBRARY(opserve, library) {
    for (const char* schema : opserve::torch_binding::kSchemas) library.def(schema);
}

STABLE_TORCH_LIBRARY_IMPL(opserve, CPU, library) {
    using namespace opserve::torch_binding;
    library.impl("scaled_add", &scaled_add_cpu);
    library.impl("graph_conv", &graph_conv_cpu);
    library.impl("graph_conv_csr", &graph_conv_csr_cpu);
    library.impl("warp_perspective", &warp_perspective_cpu);
    library.impl("_scaled_add_backward", &scaled_add_backward_cpu);
    library.impl("_graph_conv_backward", &graph_conv_backward_cpu);
    library.impl("_graph_conv_csr_backward", &graph_conv_csr_backward_cpu);
    library.impl("_warp_perspective_backward", &warp_perspective_backward_cpu);
    library.impl("check_csr", &check_csr_cpu);
}

// Without a tensor among the arguments there is no device to dispatch on.
STABLE_TORCH_LIBRARY_IMPL(opserve, CompositeExplicitAutograd, library) {
    library.impl("cpu_capability", TORCH_BOX(&opserve::torch_binding::cpu_capability));
}
