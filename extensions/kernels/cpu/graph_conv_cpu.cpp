#include "opserve/graph_conv.h"

#include "../check.h"
#include "kernels.h"
#include "workspace.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "graph_conv";

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
        const bool overflow = packed_x < 0 || packed_weight < 0;
        // The products run one after the other and share the room.
        packed = workspace.take<T>(overflow ? -1 : packed_x > packed_weight ? packed_x : packed_weight);
    }

    bool aggregate_first;
    int64_t width;  // of what passes between the two products
    T* between;
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
        table.gemm(
            {n, width, n, a, p.a_stride, x, p.x_stride, nullptr, plan.between, width, width, plan.packed},
            parallel_for);
        table.gemm({n, k, f, plan.between, width, weight, p.weight_stride, bias, out, k, k, plan.packed},
                   parallel_for);
    } else {
        table.gemm({n, width, f, x, p.x_stride, weight, p.weight_stride, nullptr, plan.between, width, width,
                    plan.packed},
                   parallel_for);
        table.gemm({n, k, n, a, p.a_stride, plan.between, width, bias, out, k, k, plan.packed}, parallel_for);
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
    if (workspace.overflow()) {
        return Status::invalid_argument(
            "opserve::%s: the workspace must fit in 2^63 bytes, got sizes that do not", kOp);
    }
    *bytes = workspace.size();
    return {};
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

}  // namespace opserve::cpu
