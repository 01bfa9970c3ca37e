#include "opserve/graph_conv_csr.h"

#include "../check.h"
#include "../csr_fault.h"
#include "kernels.h"
#include "workspace.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv_csr";

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

}  // namespace

Status graph_conv_csr_workspace_size(const GraphConvCsrParams& params, int64_t* bytes) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    Workspace workspace(nullptr);
    if (params.dtype == DType::kFloat32) {
        Plan<float>(params.sizes, workspace);
    } else {
        Plan<double>(params.sizes, workspace);
    }
    if (workspace.overflow()) {
        return Status::invalid_argument(
            "opserve::%s: the workspace must fit in 2^63 bytes, got sizes that do not", kOp);
    }
    *bytes = workspace.size();
    return {};
}

Status graph_conv_csr(const GraphConvCsrParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "x", params.dtype));
    const bool narrow = params.index_dtype == DType::kInt32;
    if (params.dtype == DType::kFloat32) {
        return narrow ? run<float, int32_t>(params, parallel_for) : run<float, int64_t>(params, parallel_for);
    }
    return narrow ? run<double, int32_t>(params, parallel_for) : run<double, int64_t>(params, parallel_for);
}

}  // namespace opserve::cpu
