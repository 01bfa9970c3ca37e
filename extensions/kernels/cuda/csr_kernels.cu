// The kernels over a matrix in CSR form.
//
// A row belongs to a group of neighbouring threads, as many as its columns need and at most a warp, so a
// block works on 256 / group rows. A row with very many entries would keep one group busy while the others
// are done: it is deferred, and then shared by all groups of the block.
#include "csr.h"
#include "device.h"
#include "kernels.h"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
// One instruction adds four neighbouring numbers.
#define OPSERVE_ADDS_FOUR 1
#else
#define OPSERVE_ADDS_FOUR 0
#endif

namespace opserve::cuda {
inline namespace csr_kernels {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// Blocks of the gathering kernel that a multiprocessor should hold: they wait for memory.
constexpr int kResident = 3;
// Entries that a thread processes at once.
constexpr int kUnroll = 4;
template <class T>
__device__ __forceinline__ Accumulator<T> entry_value(const T* value, int64_t entry) {
    return value != nullptr ? widen(value[entry]) : Accumulator<T>(1);
}

// sum += value[e]·x[col[e], column …] over every `step`-th entry of [begin, end). Returns false if a column
// was out of range. A thread without a column (`active` false) only checks the indices.
template <class T, class Index, int Width>
__device__ __forceinline__ bool gather(const Graph<Index>& graph, const T* value, const T* x,
                                       int64_t x_stride, int64_t begin, int64_t end, int64_t step,
                                       int64_t column, bool active, Accumulator<T> (&sum)[Width]) {
    bool good = true;
    for (int64_t first = begin; first < end; first += kUnroll * step) {
        int64_t from[kUnroll];
        Accumulator<T> scale[kUnroll];
        Pack<T, Width> pack[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t entry = first + u * step;
            from[u] = -1;
            scale[u] = 0;
            if (entry < end) {
                from[u] = find_column(graph, entry);
                good = good && from[u] >= 0;
                scale[u] = entry_value(value, entry);
            }
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (from[u] >= 0 && active) pack[u] = load<Width>(x + from[u] * x_stride + column);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (from[u] >= 0 && active) {
#pragma unroll
                for (int j = 0; j < Width; ++j) sum[j] += scale[u] * widen(pack[u].at[j]);
            }
        }
    }
    return good;
}

template <class T, int Width>
__device__ __forceinline__ void start_with(const T* bias, int64_t column, Accumulator<T> (&sum)[Width]) {
#pragma unroll
    for (int j = 0; j < Width; ++j) sum[j] = bias != nullptr ? widen(bias[column + j]) : Accumulator<T>(0);
}

template <class T, int Width>
__device__ __forceinline__ void store_row(const Accumulator<T> (&sum)[Width], bool good, T* to) {
    Pack<T, Width> pack;
#pragma unroll
    for (int j = 0; j < Width; ++j) pack.at[j] = narrow<T>(good ? sum[j] : not_a_number<Accumulator<T>>());
    store<Width>(to, pack);
}

// Columns are divided into bands of group·Width, so that a thread has one pack of them at a time.
template <class T, class Index, int Width>
__global__ void __launch_bounds__(kThreads, kResident)
    aggregate_kernel(Graph<Index> graph, const T* value, int64_t width, int group, const T* x,
                     int64_t x_stride, const T* bias, T* out) {
    using A = Accumulator<T>;
    __shared__ A parts[kThreads * Width];
    const int groups = kThreads / group;
    const int lane = threadIdx.x % group, mine = threadIdx.x / group;
    const int64_t band = int64_t{group} * Width;
    const int64_t bands = divide_up(width, band);
    const int64_t work = divide_up(graph.n, groups) * bands;
    for (int64_t item = blockIdx.x; item < work; item += gridDim.x) {
        const int64_t first_row = item / bands * groups;
        const int64_t column = item % bands * band + int64_t{lane} * Width;
        const bool active = column < width;
        const int64_t row = first_row + mine;
        const Entries entries = row < graph.n ? find_entries(graph, row) : Entries{0, 0, true};
        if (row < graph.n && !entries.many()) {
            A sum[Width] = {};
            if (active) start_with<T, Width>(bias, column, sum);
            const bool good = gather<T, Index, Width>(graph, value, x, x_stride, entries.begin, entries.end,
                                                      1, column, active, sum);
            if (active) store_row<T, Width>(sum, good && entries.usable, out + row * width + column);
        }
        if (__syncthreads_or(entries.many()) == 0) continue;
        for (int turn = 0; turn < groups; ++turn) {
            // The same for every thread of the block, as is each branch on it.
            const int64_t shared_row = first_row + turn;
            if (shared_row >= graph.n) break;
            const Entries shared = find_entries(graph, shared_row);
            if (!shared.many()) continue;
            A sum[Width] = {};
            const bool good = gather<T, Index, Width>(graph, value, x, x_stride, shared.begin + mine,
                                                      shared.end, groups, column, active, sum);
#pragma unroll
            for (int j = 0; j < Width; ++j) parts[threadIdx.x * Width + j] = sum[j];
            const bool all_good = __syncthreads_or(!good) == 0;
            if (mine == 0 && active) {
                start_with<T, Width>(bias, column, sum);
                for (int g = 0; g < groups; ++g) {
#pragma unroll
                    for (int j = 0; j < Width; ++j) sum[j] += parts[(g * group + lane) * Width + j];
                }
                store_row<T, Width>(sum, all_good, out + shared_row * width + column);
            }
            __syncthreads();
        }
    }
}

#if OPSERVE_ADDS_FOUR == 1
template <class A>
__device__ __forceinline__ void add_four(float4* to, const A* values) {
    atomicAdd(to, make_float4(values[0], values[1], values[2], values[3]));
}
#endif

template <int Width, class A>
__device__ __forceinline__ void atomic_add(A* to, const A (&values)[Width]) {
    if constexpr (OPSERVE_ADDS_FOUR == 1 && std::is_same_v<A, float> && Width % 4 == 0) {
#pragma unroll
        for (int j = 0; j < Width; j += 4) add_four(reinterpret_cast<float4*>(to + j), values + j);
    } else {
#pragma unroll
        for (int j = 0; j < Width; ++j) atomicAdd(to + j, values[j]);
    }
}

template <class T, class Index, int Width>
__global__ void __launch_bounds__(kThreads)
    scatter_add_kernel(Graph<Index> graph, const T* value, int64_t width, int group, const T* x,
                       int64_t x_stride, Accumulator<T>* sums) {
    using A = Accumulator<T>;
    const int groups = kThreads / group;
    const int lane = threadIdx.x % group, mine = threadIdx.x / group;
    const int64_t band = int64_t{group} * Width;
    const int64_t bands = divide_up(width, band);
    const int64_t work = divide_up(graph.n, groups) * bands;
    const auto scatter_row = [&](int64_t row, int64_t begin, int64_t end, int64_t step, int64_t column) {
        if (column >= width || begin >= end) return;
        const Pack<T, Width> pack = load<Width>(x + row * x_stride + column);
        for (int64_t entry = begin; entry < end; entry += step) {
            const int64_t to = find_column(graph, entry);
            if (to < 0) continue;
            const A scale = entry_value(value, entry);
            A scaled[Width];
#pragma unroll
            for (int j = 0; j < Width; ++j) scaled[j] = scale * widen(pack.at[j]);
            atomic_add<Width>(sums + to * width + column, scaled);
        }
    };
    for (int64_t item = blockIdx.x; item < work; item += gridDim.x) {
        const int64_t first_row = item / bands * groups;
        const int64_t column = item % bands * band + int64_t{lane} * Width;
        const int64_t row = first_row + mine;
        const Entries entries = row < graph.n ? find_entries(graph, row) : Entries{0, 0, true};
        if (row < graph.n && !entries.many()) scatter_row(row, entries.begin, entries.end, 1, column);
        if (__syncthreads_or(entries.many()) == 0) continue;
        for (int turn = 0; turn < groups && first_row + turn < graph.n; ++turn) {
            const Entries shared = find_entries(graph, first_row + turn);
            if (shared.many()) {
                scatter_row(first_row + turn, shared.begin + mine, shared.end, groups, column);
            }
        }
    }
}

// One warp per row: its threads share the dot product of an entry.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads)
    sddmm_kernel(Graph<Index> graph, int64_t width, const T* left, int64_t left_stride, const T* right,
                 int64_t right_stride, T* out) {
    using A = Accumulator<T>;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const auto multiply_row = [&](int64_t row, int64_t begin, int64_t end, int64_t step) {
        // The bounds are the same for all threads of the warp: each takes part in every exchange.
        for (int64_t entry = begin; entry < end; entry += step) {
            const int64_t from = find_column(graph, entry);
            A sum = 0;
            if (from >= 0) {
                for (int64_t j = lane; j < width; j += kWarp) {
                    sum += widen(left[row * left_stride + j]) * widen(right[from * right_stride + j]);
                }
            }
#pragma unroll
            for (int distance = kWarp / 2; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(kWholeWarp, sum, distance);
            }
            if (lane == 0) out[entry] = narrow<T>(from >= 0 ? sum : not_a_number<A>());
        }
    };
    const int64_t work = divide_up(graph.n, kWarps);
    for (int64_t item = blockIdx.x; item < work; item += gridDim.x) {
        const int64_t first_row = item * kWarps;
        const int64_t row = first_row + warp;
        const Entries entries = row < graph.n ? find_entries(graph, row) : Entries{0, 0, true};
        if (!entries.many()) multiply_row(row, entries.begin, entries.end, 1);
        if (__syncthreads_or(entries.many()) == 0) continue;
        for (int turn = 0; turn < kWarps && first_row + turn < graph.n; ++turn) {
            const Entries shared = find_entries(graph, first_row + turn);
            if (shared.many()) multiply_row(first_row + turn, shared.begin + warp, shared.end, kWarps);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill_with_nan_kernel(int64_t count, T* out) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
        out[i] = narrow<T>(not_a_number<Accumulator<T>>());
    }
}

// Returns the number of threads for the columns of a row: a power of two, at most a warp.
int group_for(int64_t width, int64_t pack) {
    int group = 1;
    while (group < kWarp && group * pack < width) group *= 2;
    return group;
}

struct Division {
    int group;
    int64_t blocks;
};

template <class T>
Division divide_rows(int64_t rows, int64_t width, bool packed) {
    const int pack = packed ? kPackWidth<T> : 1;
    const int group = group_for(width, pack);
    return {group, divide_up(rows, kThreads / group) * divide_up(width, int64_t{group} * pack)};
}

bool divisible(int64_t elements, int64_t size) { return elements * size % kPackBytes == 0; }

}  // namespace csr_kernels

Status aggregate(const char* op, const AggregateParams& p, Stream stream) {
    if (p.csr.n == 0 || p.x.columns == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) {
        return with_index(p.csr.index_dtype, [&]<class Index>(Index*) -> Status {
            OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.value, p.x.data, p.bias, p.out));
            OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(op, p.csr.rowptr, p.csr.col));
            constexpr int64_t size = sizeof(T);
            const bool packed = aligned(p.x.data, kPackBytes) && aligned(p.out, kPackBytes) &&
                                divisible(p.x.columns, size) && divisible(p.x.row_stride, size);
            const auto [group, blocks] = divide_rows<T>(p.csr.n, p.x.columns, packed);
            auto* kernel =
                packed ? &aggregate_kernel<T, Index, kPackWidth<T>> : &aggregate_kernel<T, Index, 1>;
            return launch(op, kernel, blocks, kThreads, stream, make_graph<Index>(p.csr),
                          static_cast<const T*>(p.value), p.x.columns, group, static_cast<const T*>(p.x.data),
                          p.x.row_stride, static_cast<const T*>(p.bias), static_cast<T*>(p.out));
        });
    });
}

Status scatter_add(const char* op, const ScatterAddParams& p, Stream stream) {
    if (p.csr.n == 0 || p.x.columns == 0 || p.csr.nnz == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) {
        return with_index(p.csr.index_dtype, [&]<class Index>(Index*) -> Status {
            OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.value, p.x.data));
            OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(op, p.csr.rowptr, p.csr.col));
            using A = Accumulator<T>;
            OPSERVE_RETURN_IF_ERROR(check_aligned<A>(op, p.sums));
            constexpr int64_t size = sizeof(T);
            const bool packed = aligned(p.x.data, kPackBytes) && aligned(p.sums, kPackBytes) &&
                                divisible(p.x.columns, size) && divisible(p.x.row_stride, size);
            const auto [group, blocks] = divide_rows<T>(p.csr.n, p.x.columns, packed);
            auto* kernel =
                packed ? &scatter_add_kernel<T, Index, kPackWidth<T>> : &scatter_add_kernel<T, Index, 1>;
            return launch(op, kernel, blocks, kThreads, stream, make_graph<Index>(p.csr),
                          static_cast<const T*>(p.value), p.x.columns, group, static_cast<const T*>(p.x.data),
                          p.x.row_stride, static_cast<A*>(p.sums));
        });
    });
}

Status sddmm(const char* op, const SddmmParams& p, Stream stream) {
    if (p.csr.nnz == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) {
        return with_index(p.csr.index_dtype, [&]<class Index>(Index*) -> Status {
            OPSERVE_RETURN_IF_ERROR(check_aligned<T>(op, p.left.data, p.right.data, p.out));
            OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(op, p.csr.rowptr, p.csr.col));
            T* out = static_cast<T*>(p.out);
            // For entries that belong to no row with usable ends.
            OPSERVE_RETURN_IF_ERROR(launch(op, &fill_with_nan_kernel<T>, divide_up(p.csr.nnz, kThreads),
                                           kThreads, stream, p.csr.nnz, out));
            if (p.csr.n == 0) return {};
            return launch(op, &sddmm_kernel<T, Index>, divide_up(p.csr.n, kWarps), kThreads, stream,
                          make_graph<Index>(p.csr), p.left.columns, static_cast<const T*>(p.left.data),
                          p.left.row_stride, static_cast<const T*>(p.right.data), p.right.row_stride, out);
        });
    });
}

}  // namespace opserve::cuda
