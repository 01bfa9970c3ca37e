#include "opserve/gcn_norm.h"

#include "csr.h"
#include "device.h"
#include "kernels.h"
#include "opserve/workspace.h"

namespace opserve::cuda {
inline namespace gcn_norm_cuda {

constexpr const char* kOp = "gcn_norm";
constexpr const char* kBackwardOp = "_gcn_norm_backward";
constexpr int kThreads = 256;
// Threads that share a row: most rows have few entries.
constexpr int kTeam = 8;
constexpr int kRows = kThreads / kTeam;

// Sums over the entries of a row.
template <class A>
struct RowSum {
    A sum;
    A loops;  // how many entries are on the diagonal

    __device__ __forceinline__ RowSum& operator+=(const RowSum& other) {
        sum += other.sum;
        loops += other.loops;
        return *this;
    }
};

// The sum over `Threads` neighbouring threads of a warp, all of which take part.
template <int Threads, class A>
__device__ __forceinline__ RowSum<A> sum_over(RowSum<A> total) {
#pragma unroll
    for (int distance = Threads / 2; distance > 0; distance /= 2) {
        total += {__shfl_xor_sync(kWholeWarp, total.sum, distance),
                  __shfl_xor_sync(kWholeWarp, total.loops, distance)};
    }
    return total;
}

// Calls visit(row, entry) once for each entry and finish(row, total of what the row's visits returned) once
// for each row. The order of each sum depends on the row's length only. All threads must call it.
template <class A, class Index, class Visit, class Finish>
__device__ __forceinline__ void for_rows(const Graph<Index>& graph, const Visit& visit,
                                         const Finish& finish) {
    __shared__ RowSum<A> of_warp[kThreads / kWarp];
    const int lane = threadIdx.x % kTeam;
    const int64_t work = divide_up(graph.n, kRows);
    for (int64_t item = blockIdx.x; item < work; item += gridDim.x) {
        const int64_t first_row = item * kRows;
        const int64_t row = first_row + threadIdx.x / kTeam;
        const Entries entries = row < graph.n ? find_entries(graph, row) : Entries{0, 0, false};
        RowSum<A> total{};
        if (!entries.many()) {
            for (int64_t e = entries.begin + lane; e < entries.end; e += kTeam) total += visit(row, e);
        }
        total = sum_over<kTeam>(total);
        if (lane == 0 && row < graph.n && !entries.many()) finish(row, total);
        if (__syncthreads_or(entries.many()) == 0) continue;
        for (int turn = 0; turn < kRows && first_row + turn < graph.n; ++turn) {
            // The same for every thread of the block, as is each branch on it.
            const int64_t shared_row = first_row + turn;
            const Entries shared = find_entries(graph, shared_row);
            if (!shared.many()) continue;
            total = {};
            for (int64_t e = shared.begin + threadIdx.x; e < shared.end; e += kThreads) {
                total += visit(shared_row, e);
            }
            total = sum_over<kWarp>(total);
            if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = total;
            __syncthreads();
            if (threadIdx.x == 0) {
                for (int warp = 1; warp < kThreads / kWarp; ++warp) total += of_warp[warp];
                finish(shared_row, total);
            }
            __syncthreads();
        }
    }
}

// The weighted graph, and what the first kernel finds out about it for later ones.
template <class T, class Index>
struct Weighted {
    Graph<Index> graph;
    const T* value;
    Accumulator<T> fill_value;
    Accumulator<T>* scale;  // [n]: deg^-1/2
    int* rowptr_is_wrong;   // anywhere

    // The weight of the loop that begins a row.
    __device__ Accumulator<T> loop(const RowSum<Accumulator<T>>& row) const {
        return row.loops > 0 ? Accumulator<T>(0) : fill_value;
    }
    __device__ Accumulator<T> on_diagonal(int64_t row, int64_t column) const {
        return column == row ? Accumulator<T>(1) : Accumulator<T>(0);
    }
};

__device__ __forceinline__ bool is_first_thread() { return blockIdx.x == 0 && threadIdx.x == 0; }

template <class T, class Index>
__global__ void __launch_bounds__(kThreads) scale_kernel(Weighted<T, Index> g) {
    using A = Accumulator<T>;
    // Without rows, no thread would notice.
    if (is_first_thread() && (g.graph.rowptr[0] != 0 || g.graph.rowptr[g.graph.n] != g.graph.nnz)) {
        *g.rowptr_is_wrong = 1;
    }
    for_rows<A>(
        g.graph,
        [&](int64_t row, int64_t e) -> RowSum<A> {
            return {widen(g.value[e]), g.on_diagonal(row, find_column(g.graph, e))};
        },
        [&](int64_t row, const RowSum<A>& total) {
            if (!find_entries(g.graph, row).usable) *g.rowptr_is_wrong = 1;
            const A degree = total.sum + g.loop(total);
            g.scale[row] = degree == 0 ? A(0) : A(1) / sqrt(degree);
        });
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(Weighted<T, Index> g, int64_t out_nnz, Index* out_rowptr, Index* out_col, T* out_value) {
    using A = Accumulator<T>;
    if (*g.rowptr_is_wrong != 0) {
        const int64_t step = int64_t{gridDim.x} * kThreads;
        const int64_t start = int64_t{blockIdx.x} * kThreads + threadIdx.x;
        for (int64_t i = start; i <= g.graph.n; i += step) out_rowptr[i] = -1;
        for (int64_t e = start; e < out_nnz; e += step) {
            out_col[e] = -1;
            out_value[e] = narrow<T>(not_a_number<A>());
        }
        return;
    }
    if (is_first_thread()) out_rowptr[g.graph.n] = static_cast<Index>(out_nnz);
    for_rows<A>(
        g.graph,
        [&](int64_t row, int64_t e) -> RowSum<A> {
            const int64_t column = find_column(g.graph, e), at = e + row + 1;
            const A scaled =
                column >= 0 ? g.scale[row] * widen(g.value[e]) * g.scale[column] : not_a_number<A>();
            out_col[at] = g.graph.col[e];
            out_value[at] = narrow<T>(scaled);
            return {A(0), g.on_diagonal(row, column)};
        },
        [&](int64_t row, const RowSum<A>& total) {
            const int64_t at = static_cast<int64_t>(g.graph.rowptr[row]) + row;
            out_rowptr[row] = static_cast<Index>(at);
            out_col[at] = static_cast<Index>(row);
            out_value[at] = narrow<T>(g.scale[row] * g.loop(total) * g.scale[row]);
        });
}

// slope must be 0.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    slope_kernel(Weighted<T, Index> g, const T* grad, Accumulator<T>* slope) {
    using A = Accumulator<T>;
    if (*g.rowptr_is_wrong != 0) return;
    for_rows<A>(
        g.graph,
        [&](int64_t row, int64_t e) -> RowSum<A> {
            const int64_t column = find_column(g.graph, e);
            if (column < 0) return {};
            const A weighted = widen(grad[e + row + 1]) * widen(g.value[e]);
            atomicAdd(slope + column, weighted * g.scale[row]);
            return {weighted * g.scale[column], g.on_diagonal(row, column)};
        },
        [&](int64_t row, const RowSum<A>& total) {
            const A of_loop = widen(grad[static_cast<int64_t>(g.graph.rowptr[row]) + row]) * g.loop(total);
            atomicAdd(slope + row, total.sum + 2 * of_loop * g.scale[row]);
        });
}

template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(Weighted<T, Index> g, const T* grad, const Accumulator<T>* slope, T* grad_value) {
    using A = Accumulator<T>;
    if (*g.rowptr_is_wrong != 0) {
        const int64_t step = int64_t{gridDim.x} * kThreads;
        for (int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x; e < g.graph.nnz; e += step) {
            grad_value[e] = narrow<T>(not_a_number<A>());
        }
        return;
    }
    for_rows<A>(
        g.graph,
        [&](int64_t row, int64_t e) -> RowSum<A> {
            const int64_t column = find_column(g.graph, e);
            const A own = g.scale[row];
            // A degree of 0 passes no gradient on, and 0·slope would be NaN where slope is infinite.
            const A through_degree = own == 0 ? A(0) : slope[row] * own * own * own / 2;
            const A gradient = column >= 0 ? widen(grad[e + row + 1]) * own * g.scale[column] - through_degree
                                           : not_a_number<A>();
            grad_value[e] = narrow<T>(gradient);
            return {};
        },
        [](int64_t, const RowSum<A>&) {});
}

struct Plan {
    Plan(const GcnNormSizes& sizes, DType dtype, bool backward, Workspace& workspace) {
        rowptr_is_wrong = workspace.take<int>(1);
        scale = workspace.take_matrix(true, sizes.n, 1, sum_size(dtype));
        slope = workspace.take_matrix(backward, sizes.n, 1, sum_size(dtype));
    }

    int* rowptr_is_wrong;
    void* scale;
    void* slope;
};

// At least one: some of the work is done without rows, too.
int64_t blocks_for(int64_t n) { return n == 0 ? 1 : divide_up(n, kRows); }

template <class T, class Index, class Params>
Status find_scale(const char* op, const Params& p, const Plan& plan, Stream stream, Weighted<T, Index>* g) {
    OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.value));
    OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(op, p.rowptr, p.col));
    *g = {make_graph<Index>({p.index_dtype, p.sizes.n, p.sizes.nnz, p.rowptr, p.col}),
          static_cast<const T*>(p.value), rounded<T>(p.fill_value), static_cast<Accumulator<T>*>(plan.scale),
          plan.rowptr_is_wrong};
    OPSERVE_RETURN_IF_ERROR(set_to_zero(op, plan.rowptr_is_wrong, sizeof(int), stream));
    return launch(op, &scale_kernel<T, Index>, blocks_for(p.sizes.n), kThreads, stream, *g);
}

}  // namespace gcn_norm_cuda

Status gcn_norm_workspace_size(const GcnNormParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    Plan(params.sizes, params.dtype, false, workspace);
    return workspace.size(kOp, bytes);
}

Status gcn_norm(const GcnNormParams& p, Stream stream) {
    Workspace workspace(p.workspace);
    const Plan plan(p.sizes, p.dtype, false, workspace);
    return with_floating(kOp, p.dtype, [&]<class T>(T*) {
        return with_index(p.index_dtype, [&]<class Index>(Index*) -> Status {
            OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kOp, p.out_value));
            OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(kOp, p.out_rowptr, p.out_col));
            Weighted<T, Index> g;
            OPSERVE_RETURN_IF_ERROR(find_scale(kOp, p, plan, stream, &g));
            return launch(kOp, &normalize_kernel<T, Index>, blocks_for(p.sizes.n), kThreads, stream, g,
                          p.sizes.out_nnz, static_cast<Index*>(p.out_rowptr), static_cast<Index*>(p.out_col),
                          static_cast<T*>(p.out_value));
        });
    });
}

Status gcn_norm_backward_workspace_size(const GcnNormBackwardParams& params, int64_t* bytes) {
    Workspace workspace(nullptr);
    Plan(params.sizes, params.dtype, true, workspace);
    return workspace.size(kBackwardOp, bytes);
}

Status gcn_norm_backward(const GcnNormBackwardParams& p, Stream stream) {
    Workspace workspace(p.workspace);
    const Plan plan(p.sizes, p.dtype, true, workspace);
    return with_floating(kBackwardOp, p.dtype, [&]<class T>(T*) {
        return with_index(p.index_dtype, [&]<class Index>(Index*) -> Status {
            OPSERVE_RETURN_IF_ERROR(check_aligned<T>(kBackwardOp, p.grad, p.grad_value));
            Weighted<T, Index> g;
            OPSERVE_RETURN_IF_ERROR(find_scale(kBackwardOp, p, plan, stream, &g));
            const T* grad = static_cast<const T*>(p.grad);
            auto* slope = static_cast<Accumulator<T>*>(plan.slope);
            OPSERVE_RETURN_IF_ERROR(set_to_zero(kBackwardOp, slope, p.sizes.n * sum_size(p.dtype), stream));
            OPSERVE_RETURN_IF_ERROR(launch(kBackwardOp, &slope_kernel<T, Index>, blocks_for(p.sizes.n),
                                           kThreads, stream, g, grad, slope));
            return launch(kBackwardOp, &gradient_kernel<T, Index>, blocks_for(p.sizes.n), kThreads, stream, g,
                          grad, slope, static_cast<T*>(p.grad_value));
        });
    });
}

}  // namespace opserve::cuda
