// What the backward operators share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor.h"

namespace opserve::torch_binding {

// Returns which gradients are needed. PyTorch does not check the length of a list of fixed size.
std::vector<bool> take_output_mask(StableIValue value, size_t count);

// The gradient of one argument, uninitialized; an empty tensor if it is not needed.
class Gradient : public Tensor {
  public:
    Gradient(const Tensor& like, bool needed);
    // For a vector with this many elements and the dtype and device of `like`.
    Gradient(int64_t elements, const Tensor& like, bool needed);

    // Returns what a kernel takes: null marks a gradient that is not needed, so one that is needed has
    // another pointer even if it is empty.
    void* pointer() const;

  private:
    bool needed_;
};

}  // namespace opserve::torch_binding
