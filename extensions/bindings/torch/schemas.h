// The signatures of the operators, for whichever library defines them. The library for the CPU does; one for
// another device only adds implementations.
#pragma once

namespace opserve::torch_binding {

inline constexpr const char* kSchemas[] = {
    "scaled_add(Tensor x, Tensor y, float alpha=2.0) -> Tensor",
    "graph_conv(Tensor a, Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
    "graph_conv_csr(Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor weight, Tensor? bias=None) -> "
    "Tensor",
    "warp_perspective(Tensor image, Tensor matrix, int[2] size=[8, 8]) -> Tensor",
    "_scaled_add_backward(Tensor grad, float alpha) -> (Tensor, Tensor)",
    "_warp_perspective_backward(Tensor grad, Tensor image, Tensor matrix, int[2] size, bool[2] needs) -> "
    "(Tensor, "
    "Tensor)",
    "_graph_conv_backward(Tensor grad, Tensor a, Tensor x, Tensor weight, bool[4] needs) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    "_graph_conv_csr_backward(Tensor grad, Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor "
    "weight, "
    "bool[4] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    "check_csr(Tensor rowptr, Tensor col, int n) -> ()",
    "cpu_capability() -> str",
};

}  // namespace opserve::torch_binding
