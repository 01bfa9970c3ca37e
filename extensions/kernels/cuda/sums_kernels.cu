// Sums of columns, and rounding from the accumulator type.
#include "device.h"
#include "kernels.h"

namespace opserve::cuda {
inline namespace sums_kernels {

constexpr int kThreads = 256;
constexpr int kLanes = 32;                // columns of a block
constexpr int kRows = kThreads / kLanes;  // rows it reads at once
constexpr int64_t kChunk = 1024;          // rows one block sums

// partial[chunk, j] = the sum of x[i, j] over the rows of the chunk.
template <class T>
__global__ void __launch_bounds__(kThreads) partial_sums_kernel(int64_t rows, int64_t columns, const T* x,
                                                                int64_t x_stride, Accumulator<T>* partial) {
    __shared__ Accumulator<T> part[kRows][kLanes];
    const int lane = threadIdx.x % kLanes, line = threadIdx.x / kLanes;
    const int64_t column_blocks = divide_up(columns, kLanes);
    const int64_t work = column_blocks * divide_up(rows, kChunk);
    for (int64_t item = blockIdx.x; item < work; item += gridDim.x) {
        const int64_t chunk = item / column_blocks;
        const int64_t column = item % column_blocks * kLanes + lane;
        const int64_t end = min_of(rows, (chunk + 1) * kChunk);
        Accumulator<T> sum = 0;
        if (column < columns) {
            for (int64_t row = chunk * kChunk + line; row < end; row += kRows) {
                sum += widen(x[row * x_stride + column]);
            }
        }
        part[line][lane] = sum;
        __syncthreads();
        if (line == 0 && column < columns) {
            for (int i = 1; i < kRows; ++i) sum += part[i][lane];
            partial[chunk * columns + column] = sum;
        }
        __syncthreads();
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    total_sums_kernel(int64_t chunks, int64_t columns, const Accumulator<T>* partial, T* sums) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x; column < columns; column += step) {
        Accumulator<T> sum = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk * columns + column];
        sums[column] = narrow<T>(sum);
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    round_sums_kernel(int64_t count, const Accumulator<T>* from, T* to) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
        to[i] = narrow<T>(from[i]);
    }
}

}  // namespace sums_kernels

int64_t column_sum_workspace(int64_t rows, int64_t columns) {
    int64_t elements = 0;
    return checked_multiply(divide_up(rows, kChunk), columns, &elements) ? elements : -1;
}

Status column_sum(const char* op, const ColumnSumParams& p, Stream stream) {
    if (p.columns == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        const int64_t chunks = divide_up(p.rows, kChunk);
        auto* partial = static_cast<Accumulator<T>*>(p.workspace);
        if (chunks > 0) {
            OPSERVE_RETURN_IF_ERROR(launch(op, &partial_sums_kernel<T>, chunks * divide_up(p.columns, kLanes),
                                           kThreads, stream, p.rows, p.columns, static_cast<const T*>(p.x),
                                           p.x_stride, partial));
        }
        return launch(op, &total_sums_kernel<T>, divide_up(p.columns, kThreads), kThreads, stream, chunks,
                      p.columns, partial, static_cast<T*>(p.sums));
    });
}

Status round_sums(const char* op, DType dtype, int64_t count, const void* from, void* to, Stream stream) {
    if (count == 0) return {};
    return with_floating(op, dtype, [&]<class T>(T*) -> Status {
        return launch(op, &round_sums_kernel<T>, divide_up(count, kThreads), kThreads, stream, count,
                      static_cast<const Accumulator<T>*>(from), static_cast<T*>(to));
    });
}

}  // namespace opserve::cuda
