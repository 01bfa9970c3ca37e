// The operators as PyTorch calls them: arguments are taken from the stack, which owns them, and the result is
// left in its first place.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

#include "reporting.h"

namespace opserve::torch_binding {

void scaled_add_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_csr_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void warp_perspective_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void scaled_add_backward_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_backward_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_csr_backward_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void warp_perspective_backward_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void check_csr_cpu(StableIValue* stack, uint64_t inputs, uint64_t outputs);

inline constexpr Implementation kCpuImplementations[] = {
    kImplementation<"scaled_add", scaled_add_cpu>,
    kImplementation<"_scaled_add_backward", scaled_add_backward_cpu>,
    kImplementation<"graph_conv", graph_conv_cpu>,
    kImplementation<"_graph_conv_backward", graph_conv_backward_cpu>,
    kImplementation<"graph_conv_csr", graph_conv_csr_cpu>,
    kImplementation<"_graph_conv_csr_backward", graph_conv_csr_backward_cpu>,
    kImplementation<"warp_perspective", warp_perspective_cpu>,
    kImplementation<"_warp_perspective_backward", warp_perspective_backward_cpu>,
    kImplementation<"check_csr", check_csr_cpu>,
};

}  // namespace opserve::torch_binding
