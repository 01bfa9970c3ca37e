#include "gradient.h"

namespace opserve::torch_binding {
namespace {

constexpr int64_t kNoElements = 0;

}  // namespace

std::vector<bool> take_output_mask(StableIValue value, size_t count) {
    auto output_mask = torch::stable::detail::to<std::vector<bool>>(value);
    if (output_mask.size() != count)
        throw std::runtime_error("opserve: needs must have one bool for each gradient");
    return output_mask;
}

Gradient::Gradient(const Tensor& like, bool needed)
    : Tensor(needed ? empty(like.sizes(), like.dim(), like.dtype(), like)
                    : empty(&kNoElements, 1, like.dtype(), like)),
      needed_(needed) {}

Gradient::Gradient(int64_t elements, const Tensor& like, bool needed)
    : Tensor(empty(needed ? &elements : &kNoElements, 1, like.dtype(), like)), needed_(needed) {}

void* Gradient::pointer() const {
    alignas(16) static char somewhere[16];
    if (!needed_) return nullptr;
    void* data = mutable_data();
    return data != nullptr ? data : somewhere;
}

}  // namespace opserve::torch_binding
