// The classic extension module: forward and backward by name, for a torch.autograd.Function to call. It works
// only with the PyTorch and the Python it was built with; the operators of the stable ABI do not have these
// limits, and also work in TorchScript, torch.compile and torch.export.
#include <torch/csrc/stable/c/shim.h>
#include <torch/extension.h>

#include <array>
#include <optional>
#include <tuple>

#include "opserve/graph_conv.h"
#include "opserve/scaled_add.h"

namespace {

using at::Tensor;
using opserve::DeviceType;
using opserve::DType;
using opserve::ParallelFor;
using opserve::TensorArg;

void throw_if_error(const opserve::Status& status) {
    // Thrown directly, so that the message is the kernel's, without a source location in front.
    if (!status.ok()) throw std::runtime_error(status.message());
}

DType to_dtype(c10::ScalarType type) {
    switch (type) {
        case at::kHalf:
            return DType::kFloat16;
        case at::kBFloat16:
            return DType::kBFloat16;
        case at::kFloat:
            return DType::kFloat32;
        case at::kDouble:
            return DType::kFloat64;
        case at::kInt:
            return DType::kInt32;
        case at::kLong:
            return DType::kInt64;
        default:
            return DType::kOther;
    }
}

TensorArg to_arg(const Tensor& tensor) {
    const DeviceType device = tensor.is_cpu()    ? DeviceType::kCpu
                              : tensor.is_cuda() ? DeviceType::kCuda
                                                 : DeviceType::kOther;
    return {to_dtype(tensor.scalar_type()), device, tensor.device().index(), tensor.dim(),
            tensor.sizes().data()};
}

void expect_cpu(const char* op, const Tensor& tensor) {
    if (!tensor.is_cpu()) {
        throw std::runtime_error("opserve_pybind." + std::string(op) +
                                 " runs on the CPU only, got a tensor on " + tensor.device().str() +
                                 "; torch.ops.opserve runs on both");
    }
}

// PyTorch's own threads, which need no OpenMP here.
ParallelFor parallel_for() {
    const ParallelFor::Run run = [](void*, int64_t count, int64_t grain, ParallelFor::Body body,
                                    const void* context) {
        struct Call {
            ParallelFor::Body body;
            const void* context;
        } call{body, context};
        const auto error = torch_parallel_for(
            0, count, grain,
            [](int64_t begin, int64_t end, void* opaque) {
                const Call& call = *static_cast<const Call*>(opaque);
                call.body(call.context, begin, end);
            },
            &call);
        if (error != AOTI_TORCH_SUCCESS) throw std::runtime_error("opserve: torch_parallel_for failed");
    };
    return ParallelFor(run, nullptr, at::get_num_threads());
}

// Rows may be apart; their elements may not.
Tensor with_dense_rows(const Tensor& tensor) {
    return tensor.size(1) <= 1 || tensor.stride(1) == 1 ? tensor : tensor.contiguous();
}

// The factors of both the forward and the backward kernel.
template <class Params>
void set_factors(Params& params, const Tensor& a, const Tensor& x, const Tensor& weight) {
    params.a = a.const_data_ptr();
    params.a_stride = a.stride(0);
    params.x = x.const_data_ptr();
    params.x_stride = x.stride(0);
    params.weight = weight.const_data_ptr();
    params.weight_stride = weight.stride(0);
}

Tensor scaled_add_forward(const Tensor& x, const Tensor& y, double alpha) {
    opserve::ScaledAddParams params{};
    throw_if_error(opserve::check_scaled_add(to_arg(x), to_arg(y), &params.numel));
    expect_cpu("scaled_add_forward", x);
    const Tensor dense_x = x.contiguous(), dense_y = y.contiguous();
    Tensor z = at::empty(x.sizes(), x.options());
    params.dtype = to_dtype(x.scalar_type());
    params.alpha = alpha;
    params.x = dense_x.const_data_ptr();
    params.y = dense_y.const_data_ptr();
    params.z = z.mutable_data_ptr();
    throw_if_error(opserve::cpu::scaled_add(params, parallel_for()));
    return z;
}

std::tuple<Tensor, Tensor> scaled_add_backward(const Tensor& grad, double alpha) {
    opserve::ScaledAddBackwardParams params{};
    throw_if_error(opserve::check_scaled_add_backward(to_arg(grad), &params.numel));
    expect_cpu("scaled_add_backward", grad);
    const Tensor dense_grad = grad.contiguous();
    Tensor grad_x = at::empty(grad.sizes(), grad.options()), grad_y = at::empty(grad.sizes(), grad.options());
    params.dtype = to_dtype(grad.scalar_type());
    params.alpha = alpha;
    params.grad = dense_grad.const_data_ptr();
    params.grad_x = grad_x.mutable_data_ptr();
    params.grad_y = grad_y.mutable_data_ptr();
    throw_if_error(opserve::cpu::scaled_add_backward(params, parallel_for()));
    return {grad_x, grad_y};
}

Tensor graph_conv_forward(const Tensor& a, const Tensor& x, const Tensor& weight,
                          const std::optional<Tensor>& bias) {
    opserve::GraphConvParams params{};
    TensorArg bias_arg{};
    if (bias) bias_arg = to_arg(*bias);
    throw_if_error(opserve::check_graph_conv(to_arg(a), to_arg(x), to_arg(weight), bias ? &bias_arg : nullptr,
                                             &params.sizes));
    expect_cpu("graph_conv_forward", x);
    params.dtype = to_dtype(x.scalar_type());
    int64_t bytes = 0;
    throw_if_error(opserve::cpu::graph_conv_workspace_size(params, &bytes));
    const Tensor dense_a = with_dense_rows(a), dense_x = with_dense_rows(x),
                 dense_weight = with_dense_rows(weight);
    const Tensor dense_bias = bias ? bias->contiguous() : Tensor();
    Tensor out = at::empty({params.sizes.n, params.sizes.k}, x.options());
    Tensor workspace = at::empty({bytes}, x.options().dtype(at::kByte));
    set_factors(params, dense_a, dense_x, dense_weight);
    params.bias = bias ? dense_bias.const_data_ptr() : nullptr;
    params.out = out.mutable_data_ptr();
    params.workspace = workspace.mutable_data_ptr();
    throw_if_error(opserve::cpu::graph_conv(params, parallel_for()));
    return out;
}

using Gradients = std::array<std::optional<Tensor>, 4>;

Gradients graph_conv_backward(const Tensor& grad, const Tensor& a, const Tensor& x, const Tensor& weight,
                              std::array<bool, 4> output_mask) {
    opserve::GraphConvBackwardParams params{};
    throw_if_error(opserve::check_graph_conv_backward(to_arg(grad), to_arg(a), to_arg(x), to_arg(weight),
                                                      &params.sizes));
    expect_cpu("graph_conv_backward", x);
    params.dtype = to_dtype(x.scalar_type());
    Gradients out;
    void** const pointers[] = {&params.grad_a, &params.grad_x, &params.grad_weight, &params.grad_bias};
    const Tensor* const like[] = {&a, &x, &weight};
    for (size_t i = 0; i < out.size(); ++i) {
        if (!output_mask[i]) continue;
        out[i] = i < 3 ? at::empty(like[i]->sizes(), x.options()) : at::empty({params.sizes.k}, x.options());
        // A tensor without elements may have no memory, but a gradient that is needed is never null.
        *pointers[i] = out[i]->numel() > 0 ? out[i]->mutable_data_ptr() : &params;
    }
    int64_t bytes = 0;
    throw_if_error(opserve::cpu::graph_conv_backward_workspace_size(params, &bytes));
    const Tensor dense_grad = with_dense_rows(grad), dense_a = with_dense_rows(a),
                 dense_x = with_dense_rows(x), dense_weight = with_dense_rows(weight);
    Tensor workspace = at::empty({bytes}, x.options().dtype(at::kByte));
    params.grad = dense_grad.const_data_ptr();
    params.grad_stride = dense_grad.stride(0);
    set_factors(params, dense_a, dense_x, dense_weight);
    params.workspace = workspace.mutable_data_ptr();
    throw_if_error(opserve::cpu::graph_conv_backward(params, parallel_for()));
    return out;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    using pybind11::arg;
    const pybind11::call_guard<pybind11::gil_scoped_release> without_gil;
    module.doc() =
        "The kernels of opserve as plain functions: forward and backward by name, without autograd.";
    module.def("scaled_add_forward", &scaled_add_forward, arg("x"), arg("y"), arg("alpha") = 2.0, without_gil,
               "alpha * x + y of two tensors of one shape and dtype, float32 or float64, on the CPU.\n\n"
               "Raises RuntimeError if they do not match. Source: extensions/include/opserve/scaled_add.h");
    module.def("scaled_add_backward", &scaled_add_backward, arg("grad"), arg("alpha") = 2.0, without_gil,
               "The gradients of x and y, in the shape of `grad`, float32 or float64, on the CPU.\n\n"
               "Raises RuntimeError for anything else.");
    module.def(
        "graph_conv_forward", &graph_conv_forward, arg("a"), arg("x"), arg("weight"),
        arg("bias") = pybind11::none(), without_gil,
        "a·x·weight + bias for a [n, n], x [n, f], weight [f, k] and bias [k] or None, all float32 or\n"
        "float64, on the CPU; returns [n, k].\n\n"
        "Raises RuntimeError if they do not match. Source: extensions/include/opserve/graph_conv.h");
    module.def("graph_conv_backward", &graph_conv_backward, arg("grad"), arg("a"), arg("x"), arg("weight"),
               arg("needs") = std::array<bool, 4>{true, true, true, true}, without_gil,
               "The gradients of a, x, weight and bias for `grad` [n, k]: a list with None for each that\n"
               "`needs` (4 bools) does not ask for.\n\n"
               "Raises RuntimeError as graph_conv_forward does, and for another shape or dtype of `grad`.");
}
