#include "opserve/graph_conv.h"

#include "dispatch.h"
#include "kernels.h"
#include "opserve/workspace.h"
#include "products.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv";
constexpr const char* kBackwardOp = "_graph_conv_backward";

template <class T>
struct Plan {
    Plan(const GraphConvSizes& sizes, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, f, k] = sizes;
        aggregate_first = f <= k;
        width = aggregate_first ? f : k;
        int64_t elements = 0;
        intermediate = workspace.take<T>(checked_multiply(n, width, &elements) ? elements : -1);
        const int64_t packed_x = table.gemm_packed_elements(n, width);
        const int64_t packed_weight = table.gemm_packed_elements(f, k);
        if (aggregate_first) {
            packed_first = workspace.take<T>(packed_x);
            packed = workspace.take<T>(packed_weight);
            return;
        }
        const bool overflow = packed_x < 0 || packed_weight < 0;
        // The products run one after the other and share the memory.
        packed = workspace.take<T>(overflow ? -1 : packed_x > packed_weight ? packed_x : packed_weight);
    }

    bool aggregate_first;
    int64_t width;  // of the intermediate result
    T* intermediate;
    T* packed_first = nullptr;  // when both are packed at once
    T* packed;
};

template <class T>
Status run(const GraphConvParams& p, const ParallelFor& parallel_for) {
    const auto& table = kernels().table<T>();
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const Plan<T> plan(p.sizes, workspace);
    const auto a = matrix<T>(p.a, n, n, p.a_stride), x = matrix<T>(p.x, n, f, p.x_stride),
               weight = matrix<T>(p.weight, f, k, p.weight_stride);
    const auto intermediate = matrix<T>(plan.intermediate, n, plan.width), out = matrix<T>(p.out, n, k);
    const T* bias = static_cast<const T*>(p.bias);
    if (plan.aggregate_first) {
        table.gemm_chain(dense_product<T>(a, x, intermediate, plan.packed_first),
                         dense_product<T>(intermediate, weight, out, plan.packed, bias), parallel_for);
    } else {
        table.gemm(dense_product<T>(x, weight, intermediate, plan.packed), parallel_for);
        table.gemm(dense_product<T>(a, intermediate, out, plan.packed, bias), parallel_for);
    }
    return {};
}

template <class T>
struct BackwardPlan {
    BackwardPlan(const GraphConvBackwardParams& p, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, f, k] = p.sizes;
        narrow_grad = k <= f;
        // Rows of whole vectors: such a matrix need not be packed as the second factor of a product.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        const bool padded = checked_add(narrow_grad ? k : f, lanes - 1, &stride);
        stride -= stride % lanes;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        // x·weight, aᵀ·grad, grad·weightᵀ and a·x are not needed at the same time, and share the memory.
        const bool any = p.grad_a != nullptr || p.grad_x != nullptr || p.grad_weight != nullptr;
        intermediate = workspace.take<T>(any ? fits ? elements : -1 : 0);
        // The products run one after the other, and share the memory, too.
        int64_t most = 0;
        const auto packs = [&](bool used, int64_t depth, int64_t columns) {
            const int64_t size = used ? table.gemm_packed_elements(depth, columns) : 0;
            most = most < 0 || size < 0 ? -1 : size > most ? size : most;
        };
        if (narrow_grad) {
            packs(p.grad_a != nullptr, f, k);  // x·weight
            packs(p.grad_a != nullptr, k, n);
            packs(p.grad_x != nullptr || p.grad_weight != nullptr, n, k);  // aᵀ·grad
            packs(p.grad_x != nullptr, k, f);
            packs(p.grad_weight != nullptr, n, k);
        } else {
            packs(p.grad_a != nullptr || p.grad_x != nullptr, k, f);  // grad·weightᵀ
            packs(p.grad_a != nullptr, f, n);
            packs(p.grad_x != nullptr, n, f);
            packs(p.grad_weight != nullptr, n, f);  // a·x
            packs(p.grad_weight != nullptr, n, k);
        }
        packed = workspace.take<T>(most);
    }

    bool narrow_grad;
    int64_t stride;
    T* intermediate;
    T* packed;
};

template <class T>
Status run_backward(const GraphConvBackwardParams& p, const ParallelFor& parallel_for) {
    const auto& table = kernels().table<T>();
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const BackwardPlan<T> plan(p, workspace);
    const auto grad = matrix<T>(p.grad, n, k, p.grad_stride), a = matrix<T>(p.a, n, n, p.a_stride),
               x = matrix<T>(p.x, n, f, p.x_stride), weight = matrix<T>(p.weight, f, k, p.weight_stride);
    const auto grad_a = matrix<T>(p.grad_a, n, n), grad_x = matrix<T>(p.grad_x, n, f),
               grad_weight = matrix<T>(p.grad_weight, f, k);
    const Matrix<T> intermediate{plan.intermediate, n, plan.narrow_grad ? k : f, plan.stride, true};
    const auto multiply = [&](const Matrix<const T>& left, const Matrix<const T>& right,
                              const Matrix<T>& out) {
        table.gemm(dense_product<T>(left, right, out, plan.packed), parallel_for);
    };
    if (plan.narrow_grad) {
        if (p.grad_a != nullptr) {
            multiply(x, weight, intermediate);
            multiply(grad, intermediate.transposed(), grad_a);
        }
        if (p.grad_x != nullptr || p.grad_weight != nullptr) multiply(a.transposed(), grad, intermediate);
        if (p.grad_x != nullptr) multiply(intermediate, weight.transposed(), grad_x);
        if (p.grad_weight != nullptr) multiply(x.transposed(), intermediate, grad_weight);
    } else {
        if (p.grad_a != nullptr || p.grad_x != nullptr) multiply(grad, weight.transposed(), intermediate);
        if (p.grad_a != nullptr) multiply(intermediate, x.transposed(), grad_a);
        if (p.grad_x != nullptr) multiply(a.transposed(), intermediate, grad_x);
        if (p.grad_weight != nullptr) {
            multiply(a, x, intermediate);
            multiply(intermediate.transposed(), grad, grad_weight);
        }
    }
    if (p.grad_bias != nullptr) {
        table.column_sums(n, k, grad.data, grad.stride, static_cast<T*>(p.grad_bias), parallel_for);
    }
    return {};
}

}  // namespace

Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes) {
    return for_dtype(kOp, "x", params.dtype, [&]<class T>(T) {
        return measure_workspace(kOp, bytes, [&](auto& workspace) { Plan<T>(params.sizes, workspace); });
    });
}

Status graph_conv(const GraphConvParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kOp, "x", params.dtype, [&]<class T>(T) { return run<T>(params, parallel_for); });
}

Status graph_conv_backward_workspace_size(const GraphConvBackwardParams& params, int64_t* bytes) {
    return for_dtype(kBackwardOp, "x", params.dtype, [&]<class T>(T) {
        return measure_workspace(kBackwardOp, bytes,
                                 [&](auto& workspace) { BackwardPlan<T>(params, workspace); });
    });
}

Status graph_conv_backward(const GraphConvBackwardParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kBackwardOp, "x", params.dtype,
                     [&]<class T>(T) { return run_backward<T>(params, parallel_for); });
}

}  // namespace opserve::cpu
