// The table of operators: what every binding registers, in this order.
#pragma once

// entry(Class, name, schema, backward_schema) for each operator. Each binding has a class of this name in its
// own header, <binding>/<name>.h. The PyTorch operators are opserve::<name> and, for its gradient,
// opserve::_<name>_backward; the schemas are their arguments and results in PyTorch's notation. A backward
// operator takes the gradient of the result first.
// clang-format off: it would cut the schemas inside a type.
#define OPSERVE_OPERATORS(entry)                                                                             \
    entry(ScaledAdd, scaled_add,                                                                             \
          "(Tensor x, Tensor y, float alpha=2.0) -> Tensor",                                                 \
          "(Tensor grad, float alpha) -> (Tensor, Tensor)")                                                  \
    entry(GraphConv, graph_conv,                                                                             \
          "(Tensor a, Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",                                \
          "(Tensor grad, Tensor a, Tensor x, Tensor weight, bool[4] needs)"                                  \
          " -> (Tensor, Tensor, Tensor, Tensor)")                                                            \
    entry(GraphConvCsr, graph_conv_csr,                                                                      \
          "(Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor weight, Tensor? bias=None)"           \
          " -> Tensor",                                                                                      \
          "(Tensor grad, Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor weight, bool[4] needs)"  \
          " -> (Tensor, Tensor, Tensor, Tensor)")                                                            \
    entry(GcnNorm, gcn_norm,                                                                                 \
          "(Tensor rowptr, Tensor col, Tensor value, float fill_value=1.0) -> (Tensor, Tensor, Tensor)",     \
          "(Tensor grad, Tensor rowptr, Tensor col, Tensor value, float fill_value) -> Tensor")              \
    entry(WarpPerspective, warp_perspective,                                                                 \
          "(Tensor image, Tensor matrix, int[2] size=[8, 8]) -> Tensor",                                     \
          "(Tensor grad, Tensor image, Tensor matrix, int[2] size, bool[2] needs) -> (Tensor, Tensor)")
// clang-format on
