#include "opserve/graph_conv_csr.h"

#include "dispatch.h"
#include "kernels.h"
#include "opserve/csr_fault.h"
#include "opserve/workspace.h"
#include "products.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv_csr";
constexpr const char* kBackwardOp = "_graph_conv_csr_backward";

// Returns what is wrong, if anything is.
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
        // For equal sizes, too: only then nothing but x and out passes through memory.
        aggregate_first = f <= k;
        // Rows of whole vectors, so that aggregating never has to read part of one; or of a part of a vector
        // that divides it, so that no row reaches into a second cache line.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        int64_t unit = lanes;
        while (k <= unit / 2 && unit > 1) unit /= 2;
        const bool padded = checked_add(k, unit - 1, &stride);
        stride -= stride % unit;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        intermediate = aggregate_first ? nullptr : workspace.take<T>(fits ? elements : -1);
        packed = workspace.take<T>(table.gemm_packed_elements(f, k));
    }

    bool aggregate_first;
    int64_t stride;  // of the intermediate result, unless aggregated first
    T* intermediate;
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
    const CsrMatrix<T, Index> a{rowptr, col, static_cast<const T*>(p.value)};
    const auto x = matrix<T>(p.x, n, f, p.x_stride), weight = matrix<T>(p.weight, f, k, p.weight_stride);
    const auto out = matrix<T>(p.out, n, k);
    const T* bias = static_cast<const T*>(p.bias);
    bool valid = false;
    if (plan.aggregate_first) {
        const auto aggregated = matrix<T>(nullptr, n, f);  // a few rows at a time, in the cache
        valid = sparse.spmm_gemm(sparse_product<T, Index>(a, x, aggregated, true),
                                 dense_product<T>(aggregated, weight, out, plan.packed, bias), parallel_for);
    } else {
        const Matrix<T> intermediate{plan.intermediate, n, k, plan.stride, true};
        table.gemm(dense_product<T>(x, weight, intermediate, plan.packed), parallel_for);
        valid = sparse.spmm(sparse_product<T, Index>(a, intermediate, out, true, bias), parallel_for);
    }
    return valid ? Status() : fault(kOp, rowptr, col, n, nnz);
}

template <class T, class Index>
struct BackwardPlan {
    BackwardPlan(const GraphConvCsrBackwardParams& p, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, nnz, f, k] = p.sizes;
        narrow_grad = k <= f;
        // Rows of whole vectors: such a matrix need not be packed as the second factor of a product.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        const bool padded = checked_add(narrow_grad ? k : f, lanes - 1, &stride);
        stride -= stride % lanes;
        int64_t elements = 0;
        const bool fits = padded && checked_multiply(n, stride, &elements);
        // x·weight, Aᵀ·grad, grad·weightᵀ and A·x are not needed at the same time, and share the memory.
        const bool any = p.grad_value != nullptr || p.grad_x != nullptr || p.grad_weight != nullptr;
        intermediate = workspace.take<T>(any ? fits ? elements : -1 : 0);
        transposes = p.grad_x != nullptr || (narrow_grad && p.grad_weight != nullptr);
        int64_t ends = 0;
        rowptr = workspace.take<Index>(!transposes ? 0 : checked_add(n, 2, &ends) ? ends : -1);
        col = workspace.take<Index>(transposes ? nnz : 0);
        // Even if there turn out to be none: the size is requested before the matrices are known.
        value = workspace.take<T>(transposes ? nnz : 0);
        // The products run one after the other, and share the memory, too.
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
    T* intermediate;
    // Of Aᵀ, if it is needed.
    bool transposes;
    Index* rowptr;
    Index* col;
    T* value;
    T* packed;
};

// Builds Aᵀ in CSR form, its entries in the order of those of A, so that sums over them depend on nothing
// else.
template <class T, class Index>
void transpose(int64_t n, const Index* rowptr, const Index* col, const T* value,
               const BackwardPlan<T, Index>& plan) {
    // Counts are stored two places further on: what becomes the start of a row is, once the row is filled,
    // its end, the start of the next.
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
    const auto grad = matrix<T>(p.grad, n, k, p.grad_stride), x = matrix<T>(p.x, n, f, p.x_stride),
               weight = matrix<T>(p.weight, f, k, p.weight_stride);
    const auto grad_x = matrix<T>(p.grad_x, n, f), grad_weight = matrix<T>(p.grad_weight, f, k);
    const Matrix<T> intermediate{plan.intermediate, n, plan.narrow_grad ? k : f, plan.stride, true};
    const T* value = static_cast<const T*>(p.value);
    const CsrMatrix<T, Index> a{rowptr, col, value};
    const CsrMatrix<T, Index> transposed{plan.rowptr, plan.col, value == nullptr ? nullptr : plan.value};
    if (plan.transposes) transpose(n, rowptr, col, value, plan);
    // The columns have been checked: none of these can fail.
    bool valid = true;
    const auto multiply = [&](const Matrix<const T>& left, const Matrix<const T>& right,
                              const Matrix<T>& out) {
        table.gemm(dense_product<T>(left, right, out, plan.packed), parallel_for);
    };
    const auto aggregate = [&](const CsrMatrix<T, Index>& left, const Matrix<const T>& right,
                               const Matrix<T>& out) {
        valid = sparse.spmm(sparse_product<T, Index>(left, right, out, false), parallel_for);
    };
    const auto multiply_entries = [&](const Matrix<const T>& left, const Matrix<const T>& right) {
        sparse.sddmm({.rows = n,
                      .width = left.columns,
                      .rowptr = rowptr,
                      .col = col,
                      .left = left.data,
                      .left_stride = left.stride,
                      .right = right.data,
                      .right_stride = right.stride,
                      .out = static_cast<T*>(p.grad_value)},
                     parallel_for);
    };
    if (plan.narrow_grad) {
        if (p.grad_value != nullptr) {
            multiply(x, weight, intermediate);
            multiply_entries(grad, intermediate);
        }
        if (p.grad_weight != nullptr) {
            aggregate(transposed, grad, intermediate);
            multiply(x.transposed(), intermediate, grad_weight);
            if (p.grad_x != nullptr) multiply(intermediate, weight.transposed(), grad_x);
        } else if (p.grad_x != nullptr) {
            const auto aggregated = matrix<T>(nullptr, n, k);  // a few rows at a time, in the cache
            valid = sparse.spmm_gemm(sparse_product<T, Index>(transposed, grad, aggregated, false),
                                     dense_product<T>(aggregated, weight.transposed(), grad_x, plan.packed),
                                     parallel_for);
        }
    } else {
        if (p.grad_value != nullptr || p.grad_x != nullptr) {
            multiply(grad, weight.transposed(), intermediate);
        }
        if (p.grad_value != nullptr) multiply_entries(intermediate, x);
        if (p.grad_x != nullptr) aggregate(transposed, intermediate, grad_x);
        if (p.grad_weight != nullptr) {
            aggregate(a, x, intermediate);
            multiply(intermediate.transposed(), grad, grad_weight);
        }
    }
    if (p.grad_bias != nullptr) {
        table.column_sums(n, k, grad.data, grad.stride, static_cast<T*>(p.grad_bias), parallel_for);
    }
    return valid ? Status() : fault(kBackwardOp, rowptr, col, n, nnz);
}

}  // namespace

Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
    return for_dtype(kOp, "x", params.dtype, [&]<class T>(T) {
        return measure_workspace(kOp, bytes, [&](auto& workspace) { Plan<T>(params.sizes, workspace); });
    });
}

Status graph_conv_csr(const GraphConvCsrParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kOp, "x", params.dtype, [&]<class T>(T) {
        return for_index_dtype(params.index_dtype,
                               [&]<class Index>(Index) { return run<T, Index>(params, parallel_for); });
    });
}

Status graph_conv_csr_backward_workspace_size(const GraphConvCsrBackwardParams& params, int64_t* bytes) {
    return for_dtype(kBackwardOp, "x", params.dtype, [&]<class T>(T) {
        return for_index_dtype(params.index_dtype, [&]<class Index>(Index) {
            return measure_workspace(kBackwardOp, bytes,
                                     [&](auto& workspace) { BackwardPlan<T, Index>(params, workspace); });
        });
    });
}

Status graph_conv_csr_backward(const GraphConvCsrBackwardParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kBackwardOp, "x", params.dtype, [&]<class T>(T) {
        return for_index_dtype(params.index_dtype, [&]<class Index>(Index) {
            return run_backward<T, Index>(params, parallel_for);
        });
    });
}

}  // namespace opserve::cpu
