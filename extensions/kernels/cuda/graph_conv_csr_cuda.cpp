#include "opserve/graph_conv_csr.h"

#include "kernels.h"
#include "opserve/workspace.h"

namespace opserve::cuda {
namespace {

constexpr const char* kOp = "graph_conv_csr";
constexpr const char* kBackwardOp = "_graph_conv_csr_backward";

struct Plan {
    Plan(const GraphConvCsrParams& p, Workspace& workspace) {
        const auto [n, nnz, f, k] = p.sizes;
        // Without columns there would be nothing to aggregate, and nothing to carry the NaN of a wrong index.
        aggregate_first = f < k && f > 0;
        width = aggregate_first ? f : k;
        intermediate = workspace.take_matrix(true, n, width, element_size(p.dtype));
    }

    bool aggregate_first;
    int64_t width;  // of the intermediate result
    void* intermediate;
};

struct BackwardPlan {
    BackwardPlan(const GraphConvCsrBackwardParams& p, Workspace& workspace) {
        const auto [n, nnz, f, k] = p.sizes;
        const bool value = p.grad_value != nullptr, x = p.grad_x != nullptr,
                   weight = p.grad_weight != nullptr;
        narrow = k <= f;
        needs_back = narrow ? x || weight : x || value;
        needs_ahead = narrow ? value : weight;
        // Half types are summed in another type first, the others in place.
        const bool half = element_size(p.dtype) < sum_size(p.dtype);
        const bool adds = narrow ? needs_back : x;
        const int64_t width = narrow ? k : f, size = element_size(p.dtype);
        back = workspace.take_matrix(needs_back, n, width, size);
        ahead = workspace.take_matrix(needs_ahead, n, width, size);
        column_sums =
            workspace.take_matrix(p.grad_bias != nullptr, column_sum_workspace(n, k), 1, sum_size(p.dtype));
        row_sums = workspace.take_matrix(half && adds, n, width, sum_size(p.dtype));
        separate_sums = half;
    }

    bool narrow, needs_back, needs_ahead, separate_sums;
    void* back;   // P = Aᵀ·grad where narrow, else Q = grad·weightᵀ
    void* ahead;  // x·weight where narrow, else A·x
    void* column_sums;
    void* row_sums;  // of a product with Aᵀ
};

}  // namespace

Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    Plan(params, workspace);
    return workspace.size(kOp, bytes);
}

Status graph_conv_csr(const GraphConvCsrParams& p, const Execution& execution) {
    const auto& [stream, product] = execution;
    const auto [n, nnz, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const Plan plan(p, workspace);
    const Csr csr{p.index_dtype, n, nnz, p.rowptr, p.col};
    const Matrix x = matrix(p.x, n, f, p.x_stride), weight = matrix(p.weight, f, k, p.weight_stride),
                 intermediate = matrix(plan.intermediate, n, plan.width);
    if (plan.aggregate_first) {
        OPSERVE_RETURN_IF_ERROR(
            aggregate(kOp, {p.dtype, csr, p.value, x, nullptr, plan.intermediate}, stream));
        return product(kOp, {p.dtype, intermediate, weight, p.bias, p.out}, stream);
    }
    OPSERVE_RETURN_IF_ERROR(product(kOp, {p.dtype, x, weight, nullptr, plan.intermediate}, stream));
    return aggregate(kOp, {p.dtype, csr, p.value, intermediate, p.bias, p.out}, stream);
}

Status graph_conv_csr_backward_workspace_size(const GraphConvCsrBackwardParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    BackwardPlan(params, workspace);
    return workspace.size(kBackwardOp, bytes);
}

Status graph_conv_csr_backward(const GraphConvCsrBackwardParams& p, const Execution& execution) {
    const auto& [stream, product] = execution;
    const auto [n, nnz, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const BackwardPlan plan(p, workspace);
    const Csr csr{p.index_dtype, n, nnz, p.rowptr, p.col};
    const Matrix grad = matrix(p.grad, n, k, p.grad_stride), x = matrix(p.x, n, f, p.x_stride),
                 weight = matrix(p.weight, f, k, p.weight_stride);
    const int64_t width = plan.narrow ? k : f;
    const Matrix back = matrix(plan.back, n, width), ahead = matrix(plan.ahead, n, width);
    const auto multiply = [&](const Matrix& left, const Matrix& right, void* out) {
        return product(kBackwardOp, {p.dtype, left, right, nullptr, out}, stream);
    };
    // out = Aᵀ·rows
    const auto scatter_rows = [&](const Matrix& rows, void* out) -> Status {
        void* sums = plan.separate_sums ? plan.row_sums : out;
        // The sizes were checked when the workspace was planned.
        const int64_t count = n * width;
        OPSERVE_RETURN_IF_ERROR(set_to_zero(kBackwardOp, sums, count * sum_size(p.dtype), stream));
        OPSERVE_RETURN_IF_ERROR(scatter_add(kBackwardOp, {p.dtype, csr, p.value, rows, sums}, stream));
        return plan.separate_sums ? round_sums(kBackwardOp, p.dtype, count, sums, out, stream) : Status();
    };
    if (plan.needs_back) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? scatter_rows(grad, plan.back)
                                            : multiply(grad, weight.transposed(), plan.back));
    }
    if (plan.needs_ahead) {
        OPSERVE_RETURN_IF_ERROR(
            plan.narrow ? multiply(x, weight, plan.ahead)
                        : aggregate(kBackwardOp, {p.dtype, csr, p.value, x, nullptr, plan.ahead}, stream));
    }
    if (p.grad_value != nullptr) {
        const Matrix &left = plan.narrow ? grad : back, &right = plan.narrow ? ahead : x;
        OPSERVE_RETURN_IF_ERROR(sddmm(kBackwardOp, {p.dtype, csr, left, right, p.grad_value}, stream));
    }
    if (p.grad_x != nullptr) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(back, weight.transposed(), p.grad_x)
                                            : scatter_rows(back, p.grad_x));
    }
    if (p.grad_weight != nullptr) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(x.transposed(), back, p.grad_weight)
                                            : multiply(ahead.transposed(), grad, p.grad_weight));
    }
    if (p.grad_bias == nullptr) return {};
    return column_sum(kBackwardOp, {p.dtype, n, k, p.grad, p.grad_stride, p.grad_bias, plan.column_sums},
                      stream);
}

}  // namespace opserve::cuda
