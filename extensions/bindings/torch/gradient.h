// What the backward operators share.
#pragma once

#include <cstddef>
#include <vector>

#include "tensor.h"

namespace opserve::torch_binding {

// Which gradients are needed. PyTorch does not count the elements of a list of a fixed size.
std::vector<bool> take_needs(StableIValue value, size_t count);

// The gradient of `like`, uninitialized; where it is not needed, an empty tensor.
Tensor gradient_of(const Tensor& like, bool needed);

// Null marks a gradient that is not needed, so the pointer to one that is must be another, even if it is
// empty.
void* data_of_gradient(const Tensor& gradient, bool needed);

}  // namespace opserve::torch_binding
