#include "gradient.h"

namespace opserve::torch_binding {

std::vector<bool> take_needs(StableIValue value, size_t count) {
    auto needs = torch::stable::detail::to<std::vector<bool>>(value);
    if (needs.size() != count)
        throw std::runtime_error("opserve: needs must say yes or no for each gradient");
    return needs;
}

Tensor gradient_of(const Tensor& like, bool needed) {
    const int64_t none = 0;
    return needed ? Tensor::empty(like.sizes(), like.dim(), like.dtype(), like)
                  : Tensor::empty(&none, 1, like.dtype(), like);
}

void* data_of_gradient(const Tensor& gradient, bool needed) {
    alignas(16) static char somewhere[16];
    if (!needed) return nullptr;
    void* data = gradient.mutable_data();
    return data != nullptr ? data : somewhere;
}

}  // namespace opserve::torch_binding
