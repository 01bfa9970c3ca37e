#include "opserve/graph_conv_csr.h"

#include "../check.h"
#include "../csr_fault.h"
#include "kernels.h"
#include "workspace.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv_csr";

template <class T>
struct Plan {
    Plan(const GraphConvCsrSizes& sizes, Workspace& workspace) {
        const auto& table = kernels().table<T>();
        const auto [n, nnz, f, k] = sizes;
        aggregate_first = f < k;
        width = aggregate_first ? f : k;
        // Rows of whole vectors, so that aggregating never has to read a part of one.
        const int64_t lanes = kernels().vector_bytes / static_cast<int64_t>(sizeof(T));
        const bool padded = checked_add(width, lanes - 1, &stride);
        stride -= stride % lanes;
        int64_t elements = 0;
        between = workspace.take<T>(padded && checked_multiply(n, stride, &elements) ? elements : -1);
        packed = workspace.take<T>(table.gemm_packed_elements(f, k));
    }

    bool aggregate_first;
    int64_t width;  // of what passes between the two products
    int64_t stride;
    T* between;
    T* packed;
};

template <class T, class Index>
void spmm(const SpmmParams<T, Index>& params, const ParallelFor& parallel_for) {
    if constexpr (sizeof(Index) == sizeof(int32_t)) {
        kernels().table<T>().spmm_int32(params, parallel_for);
    } else {
        kernels().table<T>().spmm_int64(params, parallel_for);
    }
}

template <class T, class Index>
Status run(const GraphConvCsrParams& p, const ParallelFor& parallel_for) {
    const auto [n, nnz, f, k] = p.sizes;
    const Index* rowptr = static_cast<const Index*>(p.rowptr);
    const Index* col = static_cast<const Index*>(p.col);
    OPSERVE_RETURN_IF_ERROR(check::csr_fault(kOp, check::find_csr_fault(rowptr, col, n, nnz), n, nnz));
    Workspace workspace(p.workspace);
    const Plan<T> plan(p.sizes, workspace);
    const auto& table = kernels().table<T>();
    const T* value = static_cast<const T*>(p.value);
    const T* x = static_cast<const T*>(p.x);
    const T* weight = static_cast<const T*>(p.weight);
    const T* bias = static_cast<const T*>(p.bias);
    T* out = static_cast<T*>(p.out);
    const int64_t stride = plan.stride;
    if (plan.aggregate_first) {
        spmm<T, Index>({n, f, rowptr, col, value, x, p.x_stride, f, nullptr, plan.between, stride},
                       parallel_for);
        table.gemm({n, k, f, plan.between, stride, weight, p.weight_stride, bias, out, k, k, plan.packed},
                   parallel_for);
    } else {
        table.gemm({n, k, f, x, p.x_stride, weight, p.weight_stride, nullptr, plan.between, stride, stride,
                    plan.packed},
                   parallel_for);
        spmm<T, Index>({n, k, rowptr, col, value, plan.between, stride, stride, bias, out, k}, parallel_for);
    }
    return {};
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
