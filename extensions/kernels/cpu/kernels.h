// The table of computing routines, filled once per instruction set. The routines trust their arguments: the
// caller has checked shapes, dtypes and indices.
#pragma once

#include <cstdint>

#include "opserve/parallel.h"

namespace opserve::cpu {

// C = A·B + bias. Rows of C have room for `c_columns` >= n elements: those beyond n, up to a whole vector,
// may be overwritten.
template <class T>
struct GemmParams {
    int64_t m, n, k;
    const T* a;
    int64_t a_stride;
    const T* b;
    int64_t b_stride;
    const T* bias;  // [n], or null
    T* c;
    int64_t c_stride;
    int64_t c_columns;
    T* packed_b;  // gemm_packed_elements, aligned to 64 bytes
    // Whether element (i, j) of the matrix is at [j * stride + i].
    bool a_transposed = false;
    bool b_transposed = false;
    // Whether rows of B have room for whole vectors, so that one may read past n; what it reads there must
    // not be subnormal, which is slow.
    bool b_padded = false;
};

// out[i] = sum over the entries e of row i of value[e]·x[col[e]], + bias. Rows of x have `x_columns` >= width
// readable elements, rows of out have `out_columns` >= width writable ones: a vector may reach past `width`.
template <class T, class Index>
struct SpmmParams {
    int64_t rows, width;
    const Index* rowptr;
    const Index* col;
    bool check;      // whether to check the columns against x_rows; rowptr has been checked
    const T* value;  // or null: ones
    const T* x;
    int64_t x_rows;
    int64_t x_stride;
    int64_t x_columns;
    const T* bias;  // [width], or null
    T* out;
    int64_t out_stride;
    int64_t out_columns;
};

// out[e] = the scalar product of row i of `left` and row col[e] of `right`, for each entry e of each row i.
template <class T, class Index>
struct SddmmParams {
    int64_t rows, width;
    const Index* rowptr;
    const Index* col;
    const T* left;
    int64_t left_stride;
    const T* right;
    int64_t right_stride;
    T* out;
};

// The routines for one type of index. Those that return bool return false if a column is outside the matrix;
// what they have written by then is to be discarded.
template <class T, class Index>
struct SparseTable {
    bool (*spmm)(const SpmmParams<T, Index>& params, const ParallelFor& parallel_for);
    // C = (A·x)·B + bias; `out` and `bias` of the sparse product and `a` of the dense one are not used.
    bool (*spmm_gemm)(const SpmmParams<T, Index>& sparse, const GemmParams<T>& dense,
                      const ParallelFor& parallel_for);
    // The columns have been checked.
    void (*sddmm)(const SddmmParams<T, Index>& params, const ParallelFor& parallel_for);
};

template <class Index>
struct IndexTable {
    bool (*rowptr_decreases)(const Index* rowptr, int64_t rows);
    bool (*col_outside)(const Index* col, int64_t count, int64_t limit);
};

template <class T>
struct WarpParams {
    int64_t n, c, h, w, out_h, out_w;
    const T* image;
    int64_t stride_n, stride_c, stride_h;
    const void* matrix;
    bool matrix_is_double;
    bool matrix_per_image;
    T* out;
};

template <class T>
struct WarpBackwardParams {
    WarpParams<T> forward;  // `out` is not used
    const T* grad;          // contiguous
    T* grad_image;          // contiguous, or null
    // Or null: nine sums for each row of each result, the gradient of the inverse homography.
    double* partial;
};

template <class T>
struct KernelTable {
    void (*scaled_add)(int64_t numel, T alpha, const T* x, const T* y, T* z, const ParallelFor& parallel_for);
    // Returns how many elements a packed k by n matrix takes, or a negative number on overflow.
    int64_t (*gemm_packed_elements)(int64_t k, int64_t n);
    void (*gemm)(const GemmParams<T>& params, const ParallelFor& parallel_for);
    // Both products, where the A of the second is the C of the first.
    void (*gemm_chain)(const GemmParams<T>& first, const GemmParams<T>& second,
                       const ParallelFor& parallel_for);
    // out[j] = the sum over the rows of a[i·stride + j].
    void (*column_sums)(int64_t rows, int64_t columns, const T* a, int64_t stride, T* out,
                        const ParallelFor& parallel_for);
    void (*warp_perspective)(const WarpParams<T>& params, const ParallelFor& parallel_for);
    void (*scaled_add_backward)(int64_t numel, T alpha, const T* grad, T* grad_x, T* grad_y,
                                const ParallelFor& parallel_for);
    void (*warp_perspective_backward)(const WarpBackwardParams<T>& params, const ParallelFor& parallel_for);
    SparseTable<T, int32_t> int32;
    SparseTable<T, int64_t> int64;

    template <class Index>
    const SparseTable<T, Index>& sparse() const {
        if constexpr (sizeof(Index) == sizeof(int32_t)) {
            return int32;
        } else {
            return int64;
        }
    }
};

struct Kernels {
    const char* name;
    int64_t vector_bytes;
    KernelTable<float> float32;
    KernelTable<double> float64;
    IndexTable<int32_t> int32;
    IndexTable<int64_t> int64;

    template <class T>
    const KernelTable<T>& table() const {
        if constexpr (sizeof(T) == sizeof(float)) {
            return float32;
        } else {
            return float64;
        }
    }
    template <class Index>
    const IndexTable<Index>& indices() const {
        if constexpr (sizeof(Index) == sizeof(int32_t)) {
            return int32;
        } else {
            return int64;
        }
    }
};

extern const Kernels kDefaultKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// Returns the best table that this processor can run.
const Kernels& kernels();

}  // namespace opserve::cpu
