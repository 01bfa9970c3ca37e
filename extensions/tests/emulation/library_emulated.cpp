// The CUDA part of the PyTorch binding, on tensors of the CPU: the same operators, the same kernels, as
// opserve_emulated.
#include <torch/csrc/stable/library.h>

#include <array>

#include "device.h"
#include "operators_cuda.h"

namespace opserve::torch_binding {

Device::Device(const TensorArg&) {}
Device::~Device() { (void)guard_; }

namespace {

// a·b + bias by the kernel of this project, for matrices of any strides.
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
    stack[0] = give_tensor(std::move(c));
}

}  // namespace
}  // namespace opserve::torch_binding

STABLE_TORCH_LIBRARY(opserve_emulated, library) {
    // As in schemas.h, the backward ones included.
    library.def("scaled_add(Tensor x, Tensor y, float alpha=2.0) -> Tensor");
    library.def("graph_conv(Tensor a, Tensor x, Tensor weight, Tensor? bias=None) -> Tensor");
    library.def(
        "graph_conv_csr(Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor weight, Tensor? "
        "bias=None) "
        "-> Tensor");
    library.def("warp_perspective(Tensor image, Tensor matrix, int[2] size=[8, 8]) -> Tensor");
    library.def("_scaled_add_backward(Tensor grad, float alpha) -> (Tensor, Tensor)");
    library.def(
        "_graph_conv_backward(Tensor grad, Tensor a, Tensor x, Tensor weight, bool[4] needs) -> "
        "(Tensor, Tensor, Tensor, Tensor)");
    library.def(
        "_graph_conv_csr_backward(Tensor grad, Tensor rowptr, Tensor col, Tensor? value, Tensor x, Tensor "
        "weight, bool[4] needs) -> (Tensor, Tensor, Tensor, Tensor)");
    library.def(
        "_warp_perspective_backward(Tensor grad, Tensor image, Tensor matrix, int[2] size, bool[2] needs) -> "
        "(Tensor, Tensor)");
    library.def("check_csr(Tensor rowptr, Tensor col, int n) -> ()");
    library.def("product(Tensor a, Tensor b, Tensor? bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(opserve_emulated, CPU, library) {
    for (const auto& [name, function] : opserve::torch_binding::kCudaImplementations) {
        library.impl(name, function);
    }
    library.impl("product", &opserve::torch_binding::product);
}
