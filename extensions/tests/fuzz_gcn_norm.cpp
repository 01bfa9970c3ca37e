// gcn_norm and its backward.
#include "fuzz.h"
#include "opserve/gcn_norm.h"

namespace fuzz {
namespace {

template <class T, class Index>
struct Arguments {
    Arguments(Random& random, int64_t n) : graph(random, n) {
        rowptr = {dtype_of<Index>(), {n + 1}};
        col = {dtype_of<Index>(), {graph.nnz}};
        value = {dtype_of<T>(), {graph.nnz}};
        grad = {dtype_of<T>(), {graph.nnz + n}};
    }

    void far(Random& random) {
        // Consistent, and far too large.
        rowptr.sizes = {random.huge()};
        col.sizes = value.sizes = {random.one_in(2) ? random.huge() : random.below(3)};
        int64_t sum = 0;
        if (!opserve::checked_add(rowptr.sizes[0] - 1, col.sizes[0], &sum)) sum = 0;
        grad.sizes = {sum};
    }

    bool valid() const {
        if (rowptr.dim() != 1 || col.dim() != 1 || value.dim() != 1 || rowptr.sizes[0] == 0) return false;
        const DType index = rowptr.dtype;
        const long double total =
            static_cast<long double>(col.sizes[0]) + static_cast<long double>(rowptr.sizes[0] - 1);
        const bool int32 = index == DType::kInt32;
        if ((!int32 && index != DType::kInt64) || total > (int32 ? 0x1p31L - 1 : 0x1p63L - 1)) return false;
        const int64_t longest = std::max(col.sizes[0] + (rowptr.sizes[0] - 1), rowptr.sizes[0]);
        return col.dtype == index && is_floating(value.dtype) && same_device(rowptr, value) &&
               same_device(col, value) && value.sizes == col.sizes && fits({longest}, index) &&
               fits({longest}, value.dtype);
    }

    bool grad_valid() const {
        return grad.dtype == value.dtype && same_device(grad, value) &&
               grad.is({col.sizes[0] + (rowptr.sizes[0] - 1)});
    }

    // The graph was made for these sizes and dtypes.
    bool as_made() const {
        return rowptr.is({static_cast<int64_t>(graph.rowptr.size())}) && col.is({graph.nnz}) &&
               rowptr.dtype == dtype_of<Index>() && value.dtype == dtype_of<T>() &&
               value.device == DeviceType::kCpu;
    }

    Graph<Index> graph;
    Argument rowptr, col, value, grad;
};

template <class Params, class T, class Index>
void set(Params& p, Random& random, const Arguments<T, Index>& arguments) {
    p.dtype = arguments.value.dtype;
    p.index_dtype = arguments.rowptr.dtype;
    p.fill_value = random.one_in(4) ? random.number() * 1e300 : random.uniform();
}

template <class T, class Index>
Outcome gcn_norm(Random& random) {
    Arguments<T, Index> arguments(random, random.side());
    if (random.one_in(3)) {
        corrupt(random, {&arguments.rowptr, &arguments.col, &arguments.value});
    } else if (random.one_in(20)) {
        arguments.far(random);
    }
    opserve::GcnNormParams p{};
    set(p, random, arguments);
    if (!agree(opserve::check_gcn_norm(arguments.rowptr.arg(), arguments.col.arg(), arguments.value.arg(),
                                       &p.sizes),
               arguments.valid())) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(p.dtype)) return refused_workspace(p, opserve::cpu::gcn_norm_workspace_size);
    if (!arguments.as_made()) return only_workspace(p, opserve::cpu::gcn_norm_workspace_size);
    const auto& graph = arguments.graph;
    auto rowptr = copy(random, graph.rowptr), col = copy(random, graph.col);
    auto value = numbers<T>(random, graph.nnz);
    Result<Index> out_rowptr(p.sizes.n + 1), out_col(p.sizes.out_nnz);
    Result<T> out_value(p.sizes.out_nnz);
    p.rowptr = rowptr.data();
    p.col = col.data();
    p.value = value.data();
    p.out_rowptr = out_rowptr.data();
    p.out_col = out_col.data();
    p.out_value = out_value.data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::gcn_norm_workspace_size, opserve::cpu::gcn_norm,
                                            pool.parallel_for());
    if (!agree(status, graph.good)) return Outcome::kRefused;
    out_rowptr.expect_written();
    out_col.expect_written();
    out_value.expect_written();
    return Outcome::kComputed;
}

template <class T, class Index>
Outcome gcn_norm_backward(Random& random) {
    Arguments<T, Index> arguments(random, random.side());
    if (random.one_in(3)) {
        corrupt(random, {&arguments.grad, &arguments.rowptr, &arguments.col, &arguments.value});
    } else if (random.one_in(20)) {
        arguments.far(random);
    }
    opserve::GcnNormBackwardParams p{};
    set(p, random, arguments);
    if (!agree(opserve::check_gcn_norm_backward(arguments.grad.arg(), arguments.rowptr.arg(),
                                                arguments.col.arg(), arguments.value.arg(), &p.sizes),
               arguments.valid() && arguments.grad_valid())) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(p.dtype)) {
        return refused_workspace(p, opserve::cpu::gcn_norm_backward_workspace_size);
    }
    if (!arguments.as_made()) return only_workspace(p, opserve::cpu::gcn_norm_backward_workspace_size);
    const auto& graph = arguments.graph;
    auto rowptr = copy(random, graph.rowptr), col = copy(random, graph.col);
    auto value = numbers<T>(random, graph.nnz), grad = numbers<T>(random, p.sizes.out_nnz);
    Result<T> grad_value(graph.nnz);
    p.grad = grad.data();
    p.rowptr = rowptr.data();
    p.col = col.data();
    p.value = value.data();
    p.grad_value = grad_value.data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::gcn_norm_backward_workspace_size,
                                            opserve::cpu::gcn_norm_backward, pool.parallel_for());
    if (!agree(status, graph.good)) return Outcome::kRefused;
    grad_value.expect_written();
    return Outcome::kComputed;
}

}  // namespace

const std::vector<Op> gcn_norm_ops{
    {"gcn_norm float32 int32", gcn_norm<float, int32_t>},
    {"gcn_norm float32 int64", gcn_norm<float, int64_t>},
    {"gcn_norm float64 int32", gcn_norm<double, int32_t>},
    {"gcn_norm float64 int64", gcn_norm<double, int64_t>},
    {"gcn_norm backward float32 int32", gcn_norm_backward<float, int32_t>},
    {"gcn_norm backward float32 int64", gcn_norm_backward<float, int64_t>},
    {"gcn_norm backward float64 int32", gcn_norm_backward<double, int32_t>},
    {"gcn_norm backward float64 int64", gcn_norm_backward<double, int64_t>},
};

}  // namespace fuzz
