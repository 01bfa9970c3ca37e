// The operators as PyTorch calls them: arguments are taken from the stack, which owns them, and the result is
// left in its first place.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

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

}  // namespace opserve::torch_binding
