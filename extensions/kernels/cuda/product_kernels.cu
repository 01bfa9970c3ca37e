#include "device.h"
#include "kernels.h"

namespace opserve::cuda {
inline namespace product_kernels {

constexpr int kThreads = 256;

// C is divided into tiles of Rows by Columns, each computed by one block; A and B pass through shared memory
// in slices of Depth. A thread holds PerRow by PerColumn elements of the tile, distributed evenly over it, so
// that neighbouring threads hold neighbouring columns.
template <int Rows, int Columns, int Depth, int PerRow, int PerColumn>
struct Tiling {
    static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth;
    static constexpr int kPerRow = PerRow, kPerColumn = PerColumn;
    static constexpr int kAcross = Columns / PerColumn;  // threads along a row of the tile
    static constexpr int kDown = Rows / PerRow;
    static_assert(kAcross * kDown == kThreads);
};
using Square = Tiling<64, 64, 16, 4, 4>;
using Narrow = Tiling<128, 16, 16, 4, 2>;

template <class T>
struct Operand {
    const T* data;
    int64_t rows, columns, row_stride, column_stride;
};

// slice[i][j] = matrix[row + i, column + j], 0 beyond the matrix. Neighbouring threads read along the
// dimension whose elements are neighbours.
template <int Rows, int Columns, int Stride, class T>
__device__ __forceinline__ void load_slice(const Operand<T>& matrix, int64_t row, int64_t column,
                                           Accumulator<T>* slice) {
    const bool along_rows = matrix.column_stride == 1;
    for (int item = threadIdx.x; item < Rows * Columns; item += kThreads) {
        const int i = along_rows ? item / Columns : item % Rows;
        const int j = along_rows ? item % Columns : item / Rows;
        Accumulator<T> value = 0;
        if (row + i < matrix.rows && column + j < matrix.columns) {
            value = widen(matrix.data[(row + i) * matrix.row_stride + (column + j) * matrix.column_stride]);
        }
        slice[i * Stride + j] = value;
    }
}

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads)
    product_tiles_kernel(Operand<T> a, Operand<T> b, const T* bias, T* c) {
    using A = Accumulator<T>;
    // One element of padding: threads that fill a column of the slice write to different banks.
    constexpr int a_stride = Tile::kDepth + 1;
    __shared__ A slice_a[Tile::kRows * a_stride];
    __shared__ A slice_b[Tile::kDepth * Tile::kColumns];
    const int across = threadIdx.x % Tile::kAcross, down = threadIdx.x / Tile::kAcross;
    const int64_t rows = a.rows, columns = b.columns, depth = a.columns;
    const int64_t tiles_across = divide_up(columns, Tile::kColumns);
    const int64_t tiles = tiles_across * divide_up(rows, Tile::kRows);
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int64_t row = tile / tiles_across * Tile::kRows, column = tile % tiles_across * Tile::kColumns;
        A sum[Tile::kPerRow][Tile::kPerColumn] = {};
        for (int64_t at = 0; at < depth; at += Tile::kDepth) {
            load_slice<Tile::kRows, Tile::kDepth, a_stride>(a, row, at, slice_a);
            load_slice<Tile::kDepth, Tile::kColumns, Tile::kColumns>(b, at, column, slice_b);
            __syncthreads();
            // Beyond the depth both slices are 0: such steps add 0·0.
#pragma unroll 4
            for (int l = 0; l < Tile::kDepth; ++l) {
                A left[Tile::kPerRow], right[Tile::kPerColumn];
#pragma unroll
                for (int i = 0; i < Tile::kPerRow; ++i) {
                    left[i] = slice_a[(down + i * Tile::kDown) * a_stride + l];
                }
#pragma unroll
                for (int j = 0; j < Tile::kPerColumn; ++j) {
                    right[j] = slice_b[l * Tile::kColumns + across + j * Tile::kAcross];
                }
#pragma unroll
                for (int i = 0; i < Tile::kPerRow; ++i) {
#pragma unroll
                    for (int j = 0; j < Tile::kPerColumn; ++j) sum[i][j] += left[i] * right[j];
                }
            }
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < Tile::kPerRow; ++i) {
            const int64_t to_row = row + down + i * Tile::kDown;
#pragma unroll
            for (int j = 0; j < Tile::kPerColumn; ++j) {
                const int64_t to_column = column + across + j * Tile::kAcross;
                if (to_row < rows && to_column < columns) {
                    const A start = bias != nullptr ? widen(bias[to_column]) : A(0);
                    c[to_row * columns + to_column] = narrow<T>(sum[i][j] + start);
                }
            }
        }
    }
}

template <class T>
Operand<T> operand(const Matrix& matrix) {
    return {static_cast<const T*>(matrix.data), matrix.rows, matrix.columns, matrix.row_stride,
            matrix.column_stride};
}

template <class T, class Tile>
Status run(const char* op, const ProductParams& p, Stream stream) {
    const int64_t tiles = divide_up(p.a.rows, Tile::kRows) * divide_up(p.b.columns, Tile::kColumns);
    return launch(op, &product_tiles_kernel<T, Tile>, tiles, kThreads, stream, operand<T>(p.a),
                  operand<T>(p.b), static_cast<const T*>(p.bias), static_cast<T*>(p.c));
}

}  // namespace product_kernels

Status product_kernel(const char* op, const ProductParams& p, Stream stream) {
    if (p.a.rows == 0 || p.b.columns == 0) return {};
    return with_floating(op, p.dtype, [&]<class T>(T*) -> Status {
        return p.b.columns <= Narrow::kColumns ? run<T, Narrow>(op, p, stream)
                                               : run<T, Square>(op, p, stream);
    });
}

}  // namespace opserve::cuda
