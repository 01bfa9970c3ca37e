#include "opserve/graph_conv.h"

#include "kernels.h"
#include "opserve/check.h"
#include "opserve/workspace.h"

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
        between = workspace.take<T>(checked_multiply(n, width, &elements) ? elements : -1);
        const int64_t packed_x = table.gemm_packed_elements(n, width);
        const int64_t packed_weight = table.gemm_packed_elements(f, k);
        if (aggregate_first) {
            packed_first = workspace.take<T>(packed_x);
            packed = workspace.take<T>(packed_weight);
            return;
        }
        const bool overflow = packed_x < 0 || packed_weight < 0;
        // The products run one after the other and share the room.
        packed = workspace.take<T>(overflow ? -1 : packed_x > packed_weight ? packed_x : packed_weight);
    }

    bool aggregate_first;
    int64_t width;  // of what passes between the two products
    T* between;
    T* packed_first = nullptr;  // where both are packed at once
    T* packed;
};

template <class T>
void run(const GraphConvParams& p, const ParallelFor& parallel_for) {
    const auto& table = kernels().table<T>();
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const Plan<T> plan(p.sizes, workspace);
    const T* a = static_cast<const T*>(p.a);
    const T* x = static_cast<const T*>(p.x);
    const T* weight = static_cast<const T*>(p.weight);
    const T* bias = static_cast<const T*>(p.bias);
    T* out = static_cast<T*>(p.out);
    const int64_t width = plan.width;
    if (plan.aggregate_first) {
        table.gemm_chain(
            {n, width, n, a, p.a_stride, x, p.x_stride, nullptr, plan.between, width, width,
             plan.packed_first},
            {n, k, f, plan.between, width, weight, p.weight_stride, bias, out, k, k, plan.packed},
            parallel_for);
    } else {
        table.gemm({n, width, f, x, p.x_stride, weight, p.weight_stride, nullptr, plan.between, width, width,
                    plan.packed},
                   parallel_for);
        table.gemm({n, k, n, a, p.a_stride, plan.between, width, bias, out, k, k, plan.packed}, parallel_for);
    }
}

template <class T>
struct BackwardPlan {
    BackwardPlan(const GraphConvBackwardParams& p, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, f, k] = p.sizes;
        narrow_grad = k <= f;
        // Rows of whole vectors: as the second factor of a product such a matrix need not be packed.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        const bool padded = checked_add(narrow_grad ? k : f, lanes - 1, &stride);
        stride -= stride % lanes;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        // x·weight, aᵀ·grad, grad·weightᵀ and a·x are not needed at the same time, and share the room.
        const bool any = p.grad_a != nullptr || p.grad_x != nullptr || p.grad_weight != nullptr;
        between = workspace.take<T>(any ? fits ? elements : -1 : 0);
        // The products run one after the other, and share the room too.
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
    T* between;
    T* packed;
};

template <class T>
void run_backward(const GraphConvBackwardParams& p, const ParallelFor& parallel_for) {
    const auto& table = kernels().table<T>();
    const auto [n, f, k] = p.sizes;
    Workspace workspace(p.workspace);
    const BackwardPlan<T> plan(p, workspace);
    const T* grad = static_cast<const T*>(p.grad);
    const T* a = static_cast<const T*>(p.a);
    const T* x = static_cast<const T*>(p.x);
    const T* weight = static_cast<const T*>(p.weight);
    T* grad_a = static_cast<T*>(p.grad_a);
    T* grad_x = static_cast<T*>(p.grad_x);
    T* grad_weight = static_cast<T*>(p.grad_weight);
    T* between = plan.between;
    const int64_t stride = plan.stride;
    if (plan.narrow_grad) {
        if (grad_a != nullptr) {
            table.gemm({n, k, f, x, p.x_stride, weight, p.weight_stride, nullptr, between, stride, stride,
                        plan.packed},
                       parallel_for);
            table.gemm({n, n, k, grad, p.grad_stride, between, stride, nullptr, grad_a, n, n, plan.packed,
                        false, true},
                       parallel_for);
        }
        if (grad_x != nullptr || grad_weight != nullptr) {
            table.gemm({n, k, n, a, p.a_stride, grad, p.grad_stride, nullptr, between, stride, stride,
                        plan.packed, true},
                       parallel_for);
        }
        if (grad_x != nullptr) {
            table.gemm({n, f, k, between, stride, weight, p.weight_stride, nullptr, grad_x, f, f, plan.packed,
                        false, true},
                       parallel_for);
        }
        if (grad_weight != nullptr) {
            table.gemm({f, k, n, x, p.x_stride, between, stride, nullptr, grad_weight, k, k, plan.packed,
                        true, false, true},
                       parallel_for);
        }
    } else {
        if (grad_a != nullptr || grad_x != nullptr) {
            table.gemm({n, f, k, grad, p.grad_stride, weight, p.weight_stride, nullptr, between, stride,
                        stride, plan.packed, false, true},
                       parallel_for);
        }
        if (grad_a != nullptr) {
            table.gemm(
                {n, n, f, between, stride, x, p.x_stride, nullptr, grad_a, n, n, plan.packed, false, true},
                parallel_for);
        }
        if (grad_x != nullptr) {
            table.gemm({n, f, n, a, p.a_stride, between, stride, nullptr, grad_x, f, f, plan.packed, true,
                        false, true},
                       parallel_for);
        }
        if (grad_weight != nullptr) {
            table.gemm({n, f, n, a, p.a_stride, x, p.x_stride, nullptr, between, stride, stride, plan.packed},
                       parallel_for);
            table.gemm({f, k, n, between, stride, grad, p.grad_stride, nullptr, grad_weight, k, k,
                        plan.packed, true},
                       parallel_for);
        }
    }
    if (p.grad_bias != nullptr) {
        table.column_sums(n, k, grad, p.grad_stride, static_cast<T*>(p.grad_bias), parallel_for);
    }
}

}  // namespace

Status graph_conv_workspace_size(const GraphConvParams& params, int64_t* bytes) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    Workspace workspace(nullptr);
    if (params.dtype == DType::kFloat32) {
        Plan<float>(params.sizes, workspace);
    } else {
        Plan<double>(params.sizes, workspace);
    }
    return workspace.size(kOp, bytes);
}

Status graph_conv(const GraphConvParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    if (params.dtype == DType::kFloat32) {
        run<float>(params, parallel_for);
    } else {
        run<double>(params, parallel_for);
    }
    return {};
}

Status graph_conv_backward_workspace_size(const GraphConvBackwardParams& params, int64_t* bytes) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kBackwardOp, "x", params.dtype));
    Workspace workspace(nullptr);
    if (params.dtype == DType::kFloat32) {
        BackwardPlan<float>(params, workspace);
    } else {
        BackwardPlan<double>(params, workspace);
    }
    return workspace.size(kBackwardOp, bytes);
}

Status graph_conv_backward(const GraphConvBackwardParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kBackwardOp, "x", params.dtype));
    if (params.dtype == DType::kFloat32) {
        run_backward<float>(params, parallel_for);
    } else {
        run_backward<double>(params, parallel_for);
    }
    return {};
}

}  // namespace opserve::cpu
