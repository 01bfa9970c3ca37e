// The CUDA part of the PyTorch binding on CPU tensors: the same operators, the same kernels, as
// opserve_emulated.
#include <torch/csrc/stable/library.h>

#include <array>

#include "operators.h"

namespace opserve::torch_binding {

DeviceGuard::DeviceGuard(int32_t) {}
DeviceGuard::~DeviceGuard() { static_cast<void>(guard_); }

namespace {

// a·b + bias by this project's kernel, for matrices with any strides.
void product(StableIValue* stack, uint64_t, uint64_t) {
    const Tensor a = take_tensor(stack[0]);
    const Tensor b = take_tensor(stack[1]);
    const Tensor bias = take_optional_tensor(stack[2]);
    const int64_t sizes[] = {a.sizes()[0], b.sizes()[1]};
    Tensor c = Tensor::empty(sizes, 2, a.dtype(), a);
    const auto matrix = [](const Tensor& m) {
        return cuda::Matrix{m.data(), m.sizes()[0], m.sizes()[1], m.strides()[0], m.strides()[1]};
    };
    throw_if_error(cuda::Product()(
        "product", {a.arg().dtype, matrix(a), matrix(b), bias ? bias.data() : nullptr, c.mutable_data()},
        nullptr));
    give_tensors(stack, std::move(c));
}

}  // namespace
}  // namespace opserve::torch_binding

STABLE_TORCH_LIBRARY(opserve_emulated, library) {
    opserve::torch_binding::define_operators(library);
    library.def("product(Tensor a, Tensor b, Tensor? bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(opserve_emulated, CPU, library) {
    opserve::torch_binding::implement_operators<opserve::torch_binding::Cuda>(library);
    library.impl("product", &opserve::torch_binding::product);
}
