// The operators on CUDA as PyTorch calls them: arguments are taken from the stack, which owns them, and the
// results are left in its first places.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>

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

struct Implementation {
    const char* name;
    void (*function)(StableIValue*, uint64_t, uint64_t);
};
inline constexpr Implementation kCudaImplementations[] = {
    {"scaled_add", &scaled_add_cuda},
    {"_scaled_add_backward", &scaled_add_backward_cuda},
    {"graph_conv", &graph_conv_cuda},
    {"_graph_conv_backward", &graph_conv_backward_cuda},
    {"graph_conv_csr", &graph_conv_csr_cuda},
    {"_graph_conv_csr_backward", &graph_conv_csr_backward_cuda},
    {"warp_perspective", &warp_perspective_cuda},
    {"_warp_perspective_backward", &warp_perspective_backward_cuda},
    {"check_csr", &check_csr_cuda},
};

}  // namespace opserve::torch_binding
