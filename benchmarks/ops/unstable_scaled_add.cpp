// scaled_add as PyTorch's tutorials write an operator, against ATen: the baseline of what one call costs.
#include <ATen/Parallel.h>
#include <torch/extension.h>

namespace {

using at::Tensor;

Tensor scaled_add_cpu(const Tensor& x, const Tensor& y, double alpha) {
    TORCH_CHECK(x.sizes() == y.sizes(), "x and y must have the same shape");
    TORCH_CHECK(x.scalar_type() == at::kFloat && y.scalar_type() == at::kFloat, "x and y must be float32");
    TORCH_CHECK(x.is_cpu() && y.is_cpu(), "x and y must be on the CPU");
    const Tensor dense_x = x.contiguous(), dense_y = y.contiguous();
    Tensor z = at::empty(x.sizes(), x.options());
    const float *from_x = dense_x.const_data_ptr<float>(), *from_y = dense_y.const_data_ptr<float>();
    float* to = z.mutable_data_ptr<float>();
    const float factor = static_cast<float>(alpha);
    at::parallel_for(0, z.numel(), 32768, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = factor * from_x[i] + from_y[i];
    });
    return z;
}

Tensor scaled_add(const Tensor& x, const Tensor& y, double alpha) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("opserve_unstable::scaled_add", "")
                               .typed<Tensor(const Tensor&, const Tensor&, double)>();
    return op.call(x, y, alpha);
}

class ScaledAdd : public torch::autograd::Function<ScaledAdd> {
  public:
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& y,
                          double alpha) {
        at::AutoDispatchBelowADInplaceOrView guard;
        context->saved_data["alpha"] = alpha;
        return scaled_add(x, y, alpha);
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   const torch::autograd::variable_list& grads) {
        return {grads[0] * context->saved_data["alpha"].toDouble(), grads[0], Tensor()};
    }
};

Tensor scaled_add_autograd(const Tensor& x, const Tensor& y, double alpha) {
    return ScaledAdd::apply(x, y, alpha);
}

}  // namespace

// The gradient of the second one is registered in Python.
TORCH_LIBRARY(opserve_unstable, m) {
    m.def("scaled_add(Tensor x, Tensor y, float alpha=2.0) -> Tensor");
    m.def("scaled_add_python_gradient(Tensor x, Tensor y, float alpha=2.0) -> Tensor");
}
TORCH_LIBRARY_IMPL(opserve_unstable, CPU, m) {
    m.impl("scaled_add", scaled_add_cpu);
    m.impl("scaled_add_python_gradient", scaled_add_cpu);
}
TORCH_LIBRARY_IMPL(opserve_unstable, Autograd, m) { m.impl("scaled_add", scaled_add_autograd); }
