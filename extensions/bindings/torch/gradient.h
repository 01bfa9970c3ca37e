// What the backward operators share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor.h"

namespace opserve::torch_binding {

// Which gradients are needed. PyTorch does not count the elements of a list of a fixed size.
std::vector<bool> take_output_mask(StableIValue value, size_t count);

// The gradient of one argument, uninitialized; where it is not needed, an empty tensor.
class Gradient : public Tensor {
  public:
    Gradient(const Tensor& like, bool needed);
    // Of a vector with this many elements, and the dtype and device of `like`.
    Gradient(int64_t elements, const Tensor& like, bool needed);

    // What a kernel takes: null marks a gradient that is not needed, so the pointer to one that is must be
    // another, even if it is empty.
    void* pointer() const;

  private:
    bool needed_;
};

}  // namespace opserve::torch_binding
