#include "opserve/graph_conv.h"

#include "kernels.h"
#include "opserve/workspace.h"

namespace opserve::cuda {
namespace {

constexpr const char* kOp = "graph_conv";
constexpr const char* kBackwardOp = "_graph_conv_backward";

struct Plan {
    Plan(const GraphConvParams& p, Workspace& workspace) {
        const auto [n, f, k] = p.sizes;
        aggregate_first = f <= k;
        width = aggregate_first ? f : k;
        intermediate = workspace.take_matrix(true, n, width, element_size(p.dtype));
    }

    bool aggregate_first;
    int64_t width;  // of the intermediate result
    void* intermediate;
};

struct BackwardPlan {
    BackwardPlan(const GraphConvBackwardParams& p, Workspace& workspace) {
        const auto [n, f, k] = p.sizes;
        const bool a = p.grad_a != nullptr, x = p.grad_x != nullptr, weight = p.grad_weight != nullptr;
        narrow = k <= f;
        needs_back = x || (narrow ? weight : a);
        needs_ahead = narrow ? a : weight;
        const int64_t width = narrow ? k : f, size = element_size(p.dtype);
        back = workspace.take_matrix(needs_back, n, width, size);
        ahead = workspace.take_matrix(needs_ahead, n, width, size);
        sums =
            workspace.take_matrix(p.grad_bias != nullptr, column_sum_workspace(n, k), 1, sum_size(p.dtype));
    }

    bool narrow, needs_back, needs_ahead;
    void* back;   // P = aᵀ·grad where narrow, else Q = grad·weightᵀ
    void* ahead;  // x·weight where narrow, else a·x
    void* sums;
};

}  // namespace

Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    Plan(params, workspace);
    return workspace.size(kOp, bytes);
}

Status graph_conv(const GraphConvParams& p, const Execution& execution) {
    const auto& [stream, product] = execution;
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const Plan plan(p, workspace);
    const Matrix a = matrix(p.a, n, n, p.a_stride), x = matrix(p.x, n, f, p.x_stride),
                 weight = matrix(p.weight, f, k, p.weight_stride),
                 intermediate = matrix(plan.intermediate, n, plan.width);
    if (plan.aggregate_first) {
        OPSERVE_RETURN_IF_ERROR(product(kOp, {p.dtype, a, x, nullptr, plan.intermediate}, stream));
        return product(kOp, {p.dtype, intermediate, weight, p.bias, p.out}, stream);
    }
    OPSERVE_RETURN_IF_ERROR(product(kOp, {p.dtype, x, weight, nullptr, plan.intermediate}, stream));
    return product(kOp, {p.dtype, a, intermediate, p.bias, p.out}, stream);
}

Status graph_conv_backward_workspace_size(const GraphConvBackwardParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    BackwardPlan(params, workspace);
    return workspace.size(kBackwardOp, bytes);
}

Status graph_conv_backward(const GraphConvBackwardParams& p, const Execution& execution) {
    const auto& [stream, product] = execution;
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const BackwardPlan plan(p, workspace);
    const Matrix grad = matrix(p.grad, n, k, p.grad_stride), a = matrix(p.a, n, n, p.a_stride),
                 x = matrix(p.x, n, f, p.x_stride), weight = matrix(p.weight, f, k, p.weight_stride);
    const int64_t width = plan.narrow ? k : f;
    const Matrix back = matrix(plan.back, n, width), ahead = matrix(plan.ahead, n, width);
    const auto multiply = [&](const Matrix& left, const Matrix& right, void* out) {
        return product(kBackwardOp, {p.dtype, left, right, nullptr, out}, stream);
    };
    if (plan.needs_back) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(a.transposed(), grad, plan.back)
                                            : multiply(grad, weight.transposed(), plan.back));
    }
    if (plan.needs_ahead) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(x, weight, plan.ahead) : multiply(a, x, plan.ahead));
    }
    if (p.grad_a != nullptr) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(grad, ahead.transposed(), p.grad_a)
                                            : multiply(back, x.transposed(), p.grad_a));
    }
    if (p.grad_x != nullptr) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(back, weight.transposed(), p.grad_x)
                                            : multiply(a.transposed(), back, p.grad_x));
    }
    if (p.grad_weight != nullptr) {
        OPSERVE_RETURN_IF_ERROR(plan.narrow ? multiply(x.transposed(), back, p.grad_weight)
                                            : multiply(ahead.transposed(), grad, p.grad_weight));
    }
    if (p.grad_bias == nullptr) return {};
    return column_sum(kBackwardOp, {p.dtype, n, k, p.grad, p.grad_stride, p.grad_bias, plan.sums}, stream);
}

}  // namespace opserve::cuda
