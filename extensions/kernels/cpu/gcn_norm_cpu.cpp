#include "opserve/gcn_norm.h"

#include <cmath>

#include "dispatch.h"
#include "opserve/csr_fault.h"
#include "opserve/workspace.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "gcn_norm";
constexpr const char* kBackwardOp = "_gcn_norm_backward";
// Rows that a thread takes at a time. A row usually has few entries, and most of the time is spent on reading
// the scale of each entry's column: wider vectors would not speed this up.
constexpr int64_t kGrain = 2048;

template <class T, class Index>
struct Graph {
    int64_t n;
    const Index* rowptr;
    const Index* col;
    const T* value;
    T fill_value;

    int64_t begin(int64_t row) const { return static_cast<int64_t>(rowptr[row]); }
    int64_t end(int64_t row) const { return static_cast<int64_t>(rowptr[row + 1]); }
    int64_t column(int64_t entry) const { return static_cast<int64_t>(col[entry]); }
    // Where the loop that begins a row is in the result; the entry e of that row follows at e + row + 1.
    int64_t loop_at(int64_t row) const { return begin(row) + row; }
    // The weight of that loop.
    T loop(int64_t row) const {
        for (int64_t e = begin(row); e < end(row); ++e) {
            if (column(e) == row) return T(0);
        }
        return fill_value;
    }
};

template <class T, class Index, class Params>
Graph<T, Index> make_graph(const Params& p) {
    return {p.sizes.n, static_cast<const Index*>(p.rowptr), static_cast<const Index*>(p.col),
            static_cast<const T*>(p.value), static_cast<T>(p.fill_value)};
}

// scale = deg^-1/2, and 0 where deg is 0.
template <class T, class Index>
void find_scale(const Graph<T, Index>& graph, T* scale, const ParallelFor& parallel_for) {
    parallel_for(graph.n, kGrain, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            T degree = graph.loop(row);
            for (int64_t e = graph.begin(row); e < graph.end(row); ++e) degree += graph.value[e];
            scale[row] = degree == T(0) ? T(0) : T(1) / std::sqrt(degree);
        }
    });
}

template <class T, class Index>
Status check_values(const char* op, const Graph<T, Index>& graph, int64_t nnz) {
    const auto fault = check::find_csr_fault(graph.rowptr, graph.col, graph.n, nnz);
    return check::csr_fault(op, fault, graph.n, nnz);
}

template <class T>
T* take_scale(const GcnNormSizes& sizes, Workspace& workspace) {
    return workspace.take<T>(sizes.n);
}

template <class T, class Index>
Status run(const GcnNormParams& p, const ParallelFor& parallel_for) {
    const Graph<T, Index> graph = make_graph<T, Index>(p);
    OPSERVE_RETURN_IF_ERROR(check_values(kOp, graph, p.sizes.nnz));
    Workspace workspace(p.workspace);
    T* scale = take_scale<T>(p.sizes, workspace);
    Index* out_rowptr = static_cast<Index*>(p.out_rowptr);
    Index* out_col = static_cast<Index*>(p.out_col);
    T* out_value = static_cast<T*>(p.out_value);
    find_scale(graph, scale, parallel_for);
    parallel_for(graph.n, kGrain, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            const T own = scale[row];
            int64_t at = graph.loop_at(row);
            out_rowptr[row] = static_cast<Index>(at);
            out_col[at] = static_cast<Index>(row);
            out_value[at] = own * graph.loop(row) * own;
            for (int64_t e = graph.begin(row); e < graph.end(row); ++e) {
                ++at;
                out_col[at] = graph.col[e];
                out_value[at] = own * graph.value[e] * scale[graph.column(e)];
            }
        }
    });
    out_rowptr[graph.n] = static_cast<Index>(p.sizes.out_nnz);
    return {};
}

template <class T>
struct BackwardPlan {
    BackwardPlan(const GcnNormSizes& sizes, Workspace& workspace)
        : scale(take_scale<T>(sizes, workspace)), slope(workspace.take<T>(sizes.n)) {}

    T* scale;
    T* slope;
};

template <class T, class Index>
Status run_backward(const GcnNormBackwardParams& p, const ParallelFor& parallel_for) {
    const Graph<T, Index> graph = make_graph<T, Index>(p);
    OPSERVE_RETURN_IF_ERROR(check_values(kBackwardOp, graph, p.sizes.nnz));
    Workspace workspace(p.workspace);
    const BackwardPlan<T> plan(p.sizes, workspace);
    T* const scale = plan.scale;
    T* const slope = plan.slope;
    const T* grad = static_cast<const T*>(p.grad);
    T* grad_value = static_cast<T*>(p.grad_value);
    find_scale(graph, scale, parallel_for);
    parallel_for(graph.n, kGrain, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            T sum = 2 * grad[graph.loop_at(row)] * graph.loop(row) * scale[row];
            for (int64_t e = graph.begin(row); e < graph.end(row); ++e) {
                sum += grad[e + row + 1] * graph.value[e] * scale[graph.column(e)];
            }
            slope[row] = sum;
        }
    });
    // In one thread, so that the order of the sums does not depend on the number of threads.
    for (int64_t row = 0; row < graph.n; ++row) {
        for (int64_t e = graph.begin(row); e < graph.end(row); ++e) {
            slope[graph.column(e)] += grad[e + row + 1] * graph.value[e] * scale[row];
        }
    }
    parallel_for(graph.n, kGrain, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            const T own = scale[row];
            // A degree of 0 passes no gradient on, and 0·slope would be NaN where slope is infinite.
            const T through_degree = own == T(0) ? T(0) : slope[row] * own * own * own / 2;
            for (int64_t e = graph.begin(row); e < graph.end(row); ++e) {
                grad_value[e] = grad[e + row + 1] * own * scale[graph.column(e)] - through_degree;
            }
        }
    });
    return {};
}

}  // namespace

Status gcn_norm_workspace_size(const GcnNormParams& params, int64_t* bytes) {
    return for_dtype(kOp, "value", params.dtype, [&]<class T>(T) {
        return measure_workspace(kOp, bytes,
                                 [&](auto& workspace) { take_scale<T>(params.sizes, workspace); });
    });
}

Status gcn_norm(const GcnNormParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kOp, "value", params.dtype, [&]<class T>(T) {
        return for_index_dtype(params.index_dtype,
                               [&]<class Index>(Index) { return run<T, Index>(params, parallel_for); });
    });
}

Status gcn_norm_backward_workspace_size(const GcnNormBackwardParams& params, int64_t* bytes) {
    return for_dtype(kBackwardOp, "value", params.dtype, [&]<class T>(T) {
        return measure_workspace(kBackwardOp, bytes,
                                 [&](auto& workspace) { BackwardPlan<T>(params.sizes, workspace); });
    });
}

Status gcn_norm_backward(const GcnNormBackwardParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kBackwardOp, "value", params.dtype, [&]<class T>(T) {
        return for_index_dtype(params.index_dtype, [&]<class Index>(Index) {
            return run_backward<T, Index>(params, parallel_for);
        });
    });
}

}  // namespace opserve::cpu
