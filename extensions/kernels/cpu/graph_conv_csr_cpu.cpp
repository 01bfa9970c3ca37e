#include "opserve/graph_conv_csr.h"

#include "kernels.h"
#include "opserve/check.h"
#include "opserve/csr_fault.h"
#include "opserve/workspace.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv_csr";
constexpr const char* kBackwardOp = "_graph_conv_csr_backward";

// Says what is wrong, where something is.
template <class Index>
Status fault(const char* op, const Index* rowptr, const Index* col, int64_t n, int64_t nnz) {
    return check::csr_fault(op, check::find_csr_fault(rowptr, col, n, nnz), n, nnz);
}

template <class Index>
bool rowptr_valid(const Index* rowptr, int64_t n, int64_t nnz) {
    return rowptr[0] == 0 && static_cast<int64_t>(rowptr[n]) == nnz &&
           !kernels().indices<Index>().rowptr_decreases(rowptr, n);
}

template <class T>
struct Plan {
    Plan(const GraphConvCsrSizes& sizes, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, nnz, f, k] = sizes;
        // With equal sizes too: only then nothing but x and out passes through memory.
        aggregate_first = f <= k;
        // Rows of whole vectors, so that aggregating never has to read a part of one; of a part of a vector
        // that divides it, lest a row reach into a second line.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        int64_t unit = lanes;
        while (k <= unit / 2 && unit > 1) unit /= 2;
        const bool padded = checked_add(k, unit - 1, &stride);
        stride -= stride % unit;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        between = aggregate_first ? nullptr : workspace.take<T>(fits ? elements : -1);
        packed = workspace.take<T>(table.gemm_packed_elements(f, k));
    }

    bool aggregate_first;
    int64_t stride;  // of what passes between the two products, unless aggregated first
    T* between;
    T* packed;
};

template <class T, class Index>
Status run(const GraphConvCsrParams& p, const ParallelFor& parallel_for) {
    const auto [n, nnz, f, k] = p.sizes;
    const Index* rowptr = static_cast<const Index*>(p.rowptr);
    const Index* col = static_cast<const Index*>(p.col);
    if (!rowptr_valid(rowptr, n, nnz)) return fault(kOp, rowptr, col, n, nnz);
    Workspace workspace(p.workspace);
    const Plan<T> plan(p.sizes, workspace);
    const auto& table = kernels().table<T>();
    const auto& sparse = table.template sparse<Index>();
    const T* value = static_cast<const T*>(p.value);
    const T* x = static_cast<const T*>(p.x);
    const T* weight = static_cast<const T*>(p.weight);
    const T* bias = static_cast<const T*>(p.bias);
    T* out = static_cast<T*>(p.out);
    bool valid = false;
    if (plan.aggregate_first) {
        valid = sparse.spmm_gemm(
            {n, f, rowptr, col, true, value, x, n, p.x_stride, f, nullptr, nullptr, 0, 0},
            {n, k, f, nullptr, 0, weight, p.weight_stride, bias, out, k, k, plan.packed}, parallel_for);
    } else {
        const int64_t stride = plan.stride;
        table.gemm({n, k, f, x, p.x_stride, weight, p.weight_stride, nullptr, plan.between, stride, stride,
                    plan.packed},
                   parallel_for);
        valid = sparse.spmm(
            {n, k, rowptr, col, true, value, plan.between, n, stride, stride, bias, out, k, k}, parallel_for);
    }
    return valid ? Status() : fault(kOp, rowptr, col, n, nnz);
}

template <class T, class Index>
struct BackwardPlan {
    BackwardPlan(const GraphConvCsrBackwardParams& p, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, nnz, f, k] = p.sizes;
        narrow_grad = k <= f;
        // Rows of whole vectors: as the second factor of a product such a matrix need not be packed.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        const bool padded = checked_add(narrow_grad ? k : f, lanes - 1, &stride);
        stride -= stride % lanes;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        // x·weight, Aᵀ·grad, grad·weightᵀ and A·x are not needed at the same time, and share the room.
        const bool any = p.grad_value != nullptr || p.grad_x != nullptr || p.grad_weight != nullptr;
        between = workspace.take<T>(any ? fits ? elements : -1 : 0);
        transposes = p.grad_x != nullptr || (narrow_grad && p.grad_weight != nullptr);
        int64_t ends = 0;
        rowptr = workspace.take<Index>(!transposes ? 0 : checked_add(n, 2, &ends) ? ends : -1);
        col = workspace.take<Index>(transposes ? nnz : 0);
        // Also where there turn out to be none: the size is asked for before the matrices are at hand.
        value = workspace.take<T>(transposes ? nnz : 0);
        // The products run one after the other, and share the room too.
        int64_t most = 0;
        const auto packs = [&](bool used, int64_t depth, int64_t columns) {
            const int64_t size = used ? table.gemm_packed_elements(depth, columns) : 0;
            most = most < 0 || size < 0 ? -1 : size > most ? size : most;
        };
        if (narrow_grad) {
            packs(p.grad_value != nullptr, f, k);  // x·weight
            packs(p.grad_x != nullptr, k, f);
            packs(p.grad_weight != nullptr, n, k);
        } else {
            packs(p.grad_value != nullptr || p.grad_x != nullptr, k, f);  // grad·weightᵀ
            packs(p.grad_weight != nullptr, n, k);
        }
        packed = workspace.take<T>(most);
    }

    bool narrow_grad;
    int64_t stride;
    T* between;
    // Of Aᵀ, where it is needed.
    bool transposes;
    Index* rowptr;
    Index* col;
    T* value;
    T* packed;
};

// Aᵀ in CSR form, its entries in the order of those of A, so that what is summed over them does not depend on
// anything else.
template <class T, class Index>
void transpose(int64_t n, const Index* rowptr, const Index* col, const T* value,
               const BackwardPlan<T, Index>& plan) {
    // Counted two places further on, what becomes the start of a row is, after the row is filled, its end:
    // the start of the next.
    Index* next = plan.rowptr + 1;
    const int64_t nnz = static_cast<int64_t>(rowptr[n]);
    for (int64_t i = 0; i < n + 2; ++i) plan.rowptr[i] = 0;
    for (int64_t e = 0; e < nnz; ++e) ++next[col[e] + 1];
    for (int64_t i = 1; i < n; ++i) next[i] = static_cast<Index>(next[i] + next[i - 1]);
    for (int64_t row = 0; row < n; ++row) {
        for (Index e = rowptr[row]; e < rowptr[row + 1]; ++e) {
            const Index to = next[col[e]]++;
            plan.col[to] = static_cast<Index>(row);
            if (value != nullptr) plan.value[to] = value[e];
        }
    }
}

template <class T, class Index>
Status run_backward(const GraphConvCsrBackwardParams& p, const ParallelFor& parallel_for) {
    const auto [n, nnz, f, k] = p.sizes;
    const Index* rowptr = static_cast<const Index*>(p.rowptr);
    const Index* col = static_cast<const Index*>(p.col);
    if (!rowptr_valid(rowptr, n, nnz) || kernels().indices<Index>().col_outside(col, nnz, n)) {
        return fault(kBackwardOp, rowptr, col, n, nnz);
    }
    Workspace workspace(p.workspace);
    const BackwardPlan<T, Index> plan(p, workspace);
    const auto& table = kernels().table<T>();
    const auto& sparse = table.template sparse<Index>();
    const T* grad = static_cast<const T*>(p.grad);
    const T* value = static_cast<const T*>(p.value);
    const T* x = static_cast<const T*>(p.x);
    const T* weight = static_cast<const T*>(p.weight);
    T* grad_value = static_cast<T*>(p.grad_value);
    T* grad_x = static_cast<T*>(p.grad_x);
    T* grad_weight = static_cast<T*>(p.grad_weight);
    T* between = plan.between;
    const int64_t stride = plan.stride;
    if (plan.transposes) transpose(n, rowptr, col, value, plan);
    const T* transposed_value = value == nullptr ? nullptr : plan.value;
    // The columns are known to be good: none of these can fail.
    bool valid = true;
    if (plan.narrow_grad) {
        if (grad_value != nullptr) {
            table.gemm({n, k, f, x, p.x_stride, weight, p.weight_stride, nullptr, between, stride, stride,
                        plan.packed},
                       parallel_for);
            sparse.entry_products({n, k, rowptr, col, grad, p.grad_stride, between, stride, grad_value},
                                  parallel_for);
        }
        if (grad_weight != nullptr) {
            valid = sparse.spmm({n, k, plan.rowptr, plan.col, false, transposed_value, grad, n, p.grad_stride,
                                 k, nullptr, between, stride, stride},
                                parallel_for);
            table.gemm({f, k, n, x, p.x_stride, between, stride, nullptr, grad_weight, k, k, plan.packed,
                        true, false, true},
                       parallel_for);
            if (grad_x != nullptr) {
                table.gemm({n, f, k, between, stride, weight, p.weight_stride, nullptr, grad_x, f, f,
                            plan.packed, false, true},
                           parallel_for);
            }
        } else if (grad_x != nullptr) {
            valid = sparse.spmm_gemm({n, k, plan.rowptr, plan.col, false, transposed_value, grad, n,
                                      p.grad_stride, k, nullptr, nullptr, 0, 0},
                                     {n, f, k, nullptr, 0, weight, p.weight_stride, nullptr, grad_x, f, f,
                                      plan.packed, false, true},
                                     parallel_for);
        }
    } else {
        if (grad_value != nullptr || grad_x != nullptr) {
            table.gemm({n, f, k, grad, p.grad_stride, weight, p.weight_stride, nullptr, between, stride,
                        stride, plan.packed, false, true},
                       parallel_for);
        }
        if (grad_value != nullptr) {
            sparse.entry_products({n, f, rowptr, col, between, stride, x, p.x_stride, grad_value},
                                  parallel_for);
        }
        if (grad_x != nullptr) {
            valid = sparse.spmm({n, f, plan.rowptr, plan.col, false, transposed_value, between, n, stride,
                                 stride, nullptr, grad_x, f, f},
                                parallel_for);
        }
        if (grad_weight != nullptr) {
            valid = sparse.spmm(
                {n, f, rowptr, col, false, value, x, n, p.x_stride, f, nullptr, between, stride, stride},
                parallel_for);
            table.gemm({f, k, n, between, stride, grad, p.grad_stride, nullptr, grad_weight, k, k,
                        plan.packed, true},
                       parallel_for);
        }
    }
    if (p.grad_bias != nullptr) {
        table.column_sums(n, k, grad, p.grad_stride, static_cast<T*>(p.grad_bias), parallel_for);
    }
    return valid ? Status() : fault(kBackwardOp, rowptr, col, n, nnz);
}

}  // namespace

Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    Workspace workspace(nullptr);
    if (params.dtype == DType::kFloat32) {
        Plan<float>(params.sizes, workspace);
    } else {
        Plan<double>(params.sizes, workspace);
    }
    return workspace.size(kOp, bytes);
}

Status graph_conv_csr(const GraphConvCsrParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    const bool narrow = params.index_dtype == DType::kInt32;
    if (params.dtype == DType::kFloat32) {
        return narrow ? run<float, int32_t>(params, parallel_for) : run<float, int64_t>(params, parallel_for);
    }
    return narrow ? run<double, int32_t>(params, parallel_for) : run<double, int64_t>(params, parallel_for);
}

Status graph_conv_csr_backward_workspace_size(const GraphConvCsrBackwardParams& params, int64_t* bytes) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kBackwardOp, "x", params.dtype));
    Workspace workspace(nullptr);
    const bool narrow = params.index_dtype == DType::kInt32;
    if (params.dtype == DType::kFloat32) {
        narrow ? (void)BackwardPlan<float, int32_t>(params, workspace)
               : (void)BackwardPlan<float, int64_t>(params, workspace);
    } else {
        narrow ? (void)BackwardPlan<double, int32_t>(params, workspace)
               : (void)BackwardPlan<double, int64_t>(params, workspace);
    }
    return workspace.size(kBackwardOp, bytes);
}

Status graph_conv_csr_backward(const GraphConvCsrBackwardParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kBackwardOp, "x", params.dtype));
    const bool narrow = params.index_dtype == DType::kInt32;
    if (params.dtype == DType::kFloat32) {
        return narrow ? run_backward<float, int32_t>(params, parallel_for)
                      : run_backward<float, int64_t>(params, parallel_for);
    }
    return narrow ? run_backward<double, int32_t>(params, parallel_for)
                  : run_backward<double, int64_t>(params, parallel_for);
}

}  // namespace opserve::cpu
