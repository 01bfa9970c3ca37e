// The backward operators: the arguments of the forward ones, a gradient of the result, and which gradients
// are needed.
#include <array>

#include "fuzz.h"
#include "fuzz_warp_perspective.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

namespace fuzz {
namespace {

// A gradient that may not be needed, and then has no memory.
template <class T>
class Gradient {
  public:
    Gradient(Random& random, int64_t count) : wanted_(!random.one_in(3)), result_(wanted_ ? count : 0) {}
    void* data() { return wanted_ ? result_.data() : nullptr; }
    void expect_written() { result_.expect_written(); }

  private:
    bool wanted_;
    Result<T> result_;
};

template <class T>
Outcome scaled_add_backward(Random& random) {
    Argument grad{dtype_of<T>(), {}};
    for (int64_t dims = random.below(4); dims > 0; --dims) grad.sizes.push_back(random.side());
    if (random.one_in(3)) corrupt(random, {&grad});
    int64_t numel = -1;
    const bool valid = is_floating(grad.dtype) && fits(grad.sizes, grad.dtype);
    if (!agree(opserve::check_scaled_add_backward(grad.arg(), &numel), valid)) return Outcome::kRefused;
    if (!is_small({&grad}) || grad.device != DeviceType::kCpu) return Outcome::kChecked;

    opserve::ScaledAddBackwardParams p{};
    p.dtype = grad.dtype;
    p.numel = numel;
    p.alpha = random.one_in(4) ? random.number() * 1e300 : random.uniform();
    Pool pool(random);
    if (grad.dtype != dtype_of<T>()) {
        if (!runs_on_the_cpu(grad.dtype))
            agree(opserve::cpu::scaled_add_backward(p, pool.parallel_for()), false);
        return Outcome::kRefused;
    }
    if (numel != grad.numel()) fail("numel is " + std::to_string(numel));
    auto values = numbers<T>(random, numel);
    Result<T> grad_x(numel), grad_y(numel);
    p.grad = values.data();
    // In place, sometimes.
    p.grad_x = random.one_in(4) ? values.data() : grad_x.data();
    p.grad_y = grad_y.data();
    if (!agree(opserve::cpu::scaled_add_backward(p, pool.parallel_for()), true)) return Outcome::kRefused;
    if (p.grad_x == grad_x.data()) grad_x.expect_written();
    grad_y.expect_written();
    return Outcome::kComputed;
}

template <class T>
Outcome graph_conv_backward(Random& random) {
    const int64_t n = random.side(), f = random.side(), k = random.side();
    const DType dtype = dtype_of<T>();
    Argument grad{dtype, {n, k}}, a{dtype, {n, n}}, x{dtype, {n, f}}, weight{dtype, {f, k}};
    if (random.one_in(3)) {
        corrupt(random, {&grad, &a, &x, &weight});
    } else if (random.one_in(20)) {
        // Consistent, and far too large.
        const int64_t rows = random.huge(), columns = random.one_in(2) ? random.huge() : random.below(3);
        grad.sizes = {rows, columns};
        a.sizes = {rows, rows};
        x.sizes = {rows, 0};
        weight.sizes = {0, columns};
    }
    const bool ranks = x.dim() == 2 && weight.dim() == 2;
    const bool valid = ranks && is_floating(x.dtype) && grad.dtype == x.dtype && a.dtype == x.dtype &&
                       weight.dtype == x.dtype && same_device(grad, x) && same_device(a, x) &&
                       same_device(weight, x) && a.is({x.sizes[0], x.sizes[0]}) &&
                       weight.sizes[0] == x.sizes[1] && grad.is({x.sizes[0], weight.sizes[1]}) &&
                       fits({x.sizes[0], weight.sizes[1]}, x.dtype);
    opserve::GraphConvBackwardParams p{};
    p.dtype = x.dtype;
    if (!agree(opserve::check_graph_conv_backward(grad.arg(), a.arg(), x.arg(), weight.arg(), &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(x.dtype)) {
        return refused_workspace(p, opserve::cpu::graph_conv_backward_workspace_size);
    }
    if (!is_small({&grad, &a, &x, &weight}) || x.device != DeviceType::kCpu || x.dtype != dtype) {
        // All gradients, so that the workspace is as large as possible.
        p.grad_a = p.grad_x = p.grad_weight = p.grad_bias = &p;
        return only_workspace(p, opserve::cpu::graph_conv_backward_workspace_size);
    }
    Matrix<T> dgrad(random, grad), da(random, a), dx(random, x), dw(random, weight);
    std::array<Gradient<T>, 4> gradients{Gradient<T>(random, a.numel()), Gradient<T>(random, x.numel()),
                                         Gradient<T>(random, weight.numel()), Gradient<T>(random, p.sizes.k)};
    p.grad = dgrad.elements.data();
    p.grad_stride = dgrad.stride;
    p.a = da.elements.data();
    p.a_stride = da.stride;
    p.x = dx.elements.data();
    p.x_stride = dx.stride;
    p.weight = dw.elements.data();
    p.weight_stride = dw.stride;
    p.grad_a = gradients[0].data();
    p.grad_x = gradients[1].data();
    p.grad_weight = gradients[2].data();
    p.grad_bias = gradients[3].data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::graph_conv_backward_workspace_size,
                                            opserve::cpu::graph_conv_backward, pool.parallel_for());
    if (!agree(status, true)) return Outcome::kRefused;
    for (auto& gradient : gradients) gradient.expect_written();
    return Outcome::kComputed;
}

template <class T, class Index>
Outcome graph_conv_csr_backward(Random& random) {
    const int64_t n = random.side(), f = random.side(), k = random.side();
    const DType dtype = dtype_of<T>(), index = dtype_of<Index>();
    const Graph<Index> graph(random, n);
    Argument grad{dtype, {n, k}}, rowptr{index, {n + 1}}, col{index, {graph.nnz}}, value{dtype, {graph.nnz}},
        x{dtype, {n, f}}, weight{dtype, {f, k}};
    const bool has_value = random.one_in(2);
    if (random.one_in(3)) {
        std::vector<Argument*> arguments{&grad, &rowptr, &col, &x, &weight};
        if (has_value) arguments.push_back(&value);
        corrupt(random, arguments);
    } else if (random.one_in(20)) {
        const int64_t rows = random.huge(), columns = random.one_in(2) ? random.huge() : random.below(3);
        grad.sizes = {rows, columns};
        rowptr.sizes = {rows == std::numeric_limits<int64_t>::max() ? rows : rows + 1};
        x.sizes = {rows, 0};
        weight.sizes = {0, columns};
    }
    const bool ranks = rowptr.dim() == 1 && col.dim() == 1 && x.dim() == 2 && weight.dim() == 2;
    const bool valid =
        ranks && (rowptr.dtype == DType::kInt32 || rowptr.dtype == DType::kInt64) &&
        col.dtype == rowptr.dtype && is_floating(x.dtype) && grad.dtype == x.dtype &&
        weight.dtype == x.dtype && same_device(grad, x) && same_device(rowptr, x) && same_device(col, x) &&
        same_device(weight, x) && rowptr.sizes[0] - 1 == x.sizes[0] && weight.sizes[0] == x.sizes[1] &&
        (!has_value || (value.dtype == x.dtype && same_device(value, x) && value.is({col.sizes[0]}))) &&
        grad.is({x.sizes[0], weight.sizes[1]}) && fits({x.sizes[0], weight.sizes[1]}, x.dtype);
    const TensorArg value_arg = value.arg();
    opserve::GraphConvCsrBackwardParams p{};
    p.dtype = x.dtype;
    p.index_dtype = rowptr.dtype;
    if (!agree(opserve::check_graph_conv_csr_backward(grad.arg(), rowptr.arg(), col.arg(),
                                                      has_value ? &value_arg : nullptr, x.arg(), weight.arg(),
                                                      &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(x.dtype)) {
        return refused_workspace(p, opserve::cpu::graph_conv_csr_backward_workspace_size);
    }
    // The graph was made for these sizes and dtypes.
    const bool as_made = rowptr.is({n + 1}) && col.is({graph.nnz}) && rowptr.dtype == index &&
                         x.dtype == dtype && x.device == DeviceType::kCpu;
    if (!as_made || !is_small({&grad, &x, &weight, &value})) {
        p.grad_value = has_value ? &p : nullptr;
        p.grad_x = p.grad_weight = p.grad_bias = &p;
        return only_workspace(p, opserve::cpu::graph_conv_csr_backward_workspace_size);
    }
    auto drowptr = copy(random, graph.rowptr), dcol = copy(random, graph.col);
    auto dvalue = numbers<T>(random, value.numel());
    Matrix<T> dgrad(random, grad), dx(random, x), dw(random, weight);
    std::array<Gradient<T>, 4> gradients{Gradient<T>(random, graph.nnz), Gradient<T>(random, x.numel()),
                                         Gradient<T>(random, weight.numel()), Gradient<T>(random, p.sizes.k)};
    p.rowptr = drowptr.data();
    p.col = dcol.data();
    p.value = has_value ? dvalue.data() : nullptr;
    p.grad = dgrad.elements.data();
    p.grad_stride = dgrad.stride;
    p.x = dx.elements.data();
    p.x_stride = dx.stride;
    p.weight = dw.elements.data();
    p.weight_stride = dw.stride;
    // A value that was left out has no gradient.
    p.grad_value = has_value ? gradients[0].data() : nullptr;
    p.grad_x = gradients[1].data();
    p.grad_weight = gradients[2].data();
    p.grad_bias = gradients[3].data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::graph_conv_csr_backward_workspace_size,
                                            opserve::cpu::graph_conv_csr_backward, pool.parallel_for());
    if (!agree(status, graph.good)) return Outcome::kRefused;
    for (size_t i = has_value ? 0 : 1; i < gradients.size(); ++i) gradients[i].expect_written();
    return Outcome::kComputed;
}

template <class T, class M>
Outcome warp_perspective_backward(Random& random) {
    const DType dtype = dtype_of<T>(), matrix_dtype = dtype_of<M>();
    WarpArguments arguments(random, dtype, matrix_dtype);
    auto& [image, matrix, size] = arguments;
    Argument grad{dtype, arguments.out_sizes()};
    if (random.one_in(3)) corrupt(random, {&grad, &image, &matrix});
    arguments.spoil_size(random);
    const bool valid = arguments.valid() && grad.sizes == arguments.out_sizes() &&
                       grad.dtype == image.dtype && same_device(grad, image);
    opserve::WarpPerspectiveBackwardParams p{};
    if (!agree(opserve::check_warp_perspective_backward(grad.arg(), image.arg(), matrix.arg(), size.data(),
                                                        static_cast<int64_t>(size.size()), &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    const auto& s = p.sizes;
    p.dtype = image.dtype;
    p.matrix_dtype = matrix.dtype;
    if (!runs_on_the_cpu(image.dtype)) {
        return refused_workspace(p, opserve::cpu::warp_perspective_backward_workspace_size);
    }
    const Argument out{image.dtype, {s.n, s.c, s.out_h, s.out_w}};
    if (!is_small({&image, &out}) || image.device != DeviceType::kCpu || image.dtype != dtype ||
        matrix.dtype != matrix_dtype) {
        p.grad_image = p.grad_matrix = &p;
        return only_workspace(p, opserve::cpu::warp_perspective_backward_workspace_size);
    }
    Image<T> pixels(random, s);
    auto dgrad = numbers<T>(random, out.numel());
    const int64_t matrices = s.matrix_per_image ? s.n : 1;
    Elements<M> dm(random, matrices * 9);
    const Known known = random_matrices(random, dm.data(), matrices);
    Gradient<T> grad_image(random, image.numel());
    Gradient<M> grad_matrix(random, matrices * 9);
    p.grad = dgrad.data();
    pixels.give_to(p);
    p.matrix = dm.data();
    p.grad_image = grad_image.data();
    p.grad_matrix = grad_matrix.data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::warp_perspective_backward_workspace_size,
                                            opserve::cpu::warp_perspective_backward, pool.parallel_for());
    if (known != Known::kNeither) agree(status, known == Known::kGood);
    if (!status.ok()) return Outcome::kRefused;
    grad_image.expect_written();
    grad_matrix.expect_written();
    return Outcome::kComputed;
}

}  // namespace

const std::vector<Op> backward_ops{
    {"scaled_add backward float32", scaled_add_backward<float>},
    {"scaled_add backward float64", scaled_add_backward<double>},
    {"graph_conv backward float32", graph_conv_backward<float>},
    {"graph_conv backward float64", graph_conv_backward<double>},
    {"graph_conv_csr backward float32 int32", graph_conv_csr_backward<float, int32_t>},
    {"graph_conv_csr backward float32 int64", graph_conv_csr_backward<float, int64_t>},
    {"graph_conv_csr backward float64 int32", graph_conv_csr_backward<double, int32_t>},
    {"graph_conv_csr backward float64 int64", graph_conv_csr_backward<double, int64_t>},
    {"warp_perspective backward float32 float32", warp_perspective_backward<float, float>},
    {"warp_perspective backward float32 float64", warp_perspective_backward<float, double>},
    {"warp_perspective backward float64 float32", warp_perspective_backward<double, float>},
    {"warp_perspective backward float64 float64", warp_perspective_backward<double, double>},
};

}  // namespace fuzz
