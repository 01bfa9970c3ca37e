// The operators on CUDA as PyTorch calls them: arguments are taken from the stack, which owns them, and the
// results are left in its first places.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

#include "reporting.h"

namespace opserve::torch_binding {

void scaled_add_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void scaled_add_backward_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_backward_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_csr_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void graph_conv_csr_backward_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void warp_perspective_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void warp_perspective_backward_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);
void check_csr_cuda(StableIValue* stack, uint64_t inputs, uint64_t outputs);

inline constexpr Implementation kCudaImplementations[] = {
    kImplementation<"scaled_add", scaled_add_cuda>,
    kImplementation<"_scaled_add_backward", scaled_add_backward_cuda>,
    kImplementation<"graph_conv", graph_conv_cuda>,
    kImplementation<"_graph_conv_backward", graph_conv_backward_cuda>,
    kImplementation<"graph_conv_csr", graph_conv_csr_cuda>,
    kImplementation<"_graph_conv_csr_backward", graph_conv_csr_backward_cuda>,
    kImplementation<"warp_perspective", warp_perspective_cuda>,
    kImplementation<"_warp_perspective_backward", warp_perspective_backward_cuda>,
    kImplementation<"check_csr", check_csr_cuda>,
};

}  // namespace opserve::torch_binding
