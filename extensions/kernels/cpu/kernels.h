// The table of computing routines, filled once per instruction set. The routines trust their arguments:
// whoever calls them has checked shapes, dtypes and indices.
#pragma once

#include <cstdint>

#include "opserve/parallel.h"

namespace opserve::cpu {

// C = A·B + bias, all row-major. Rows of C have room for `c_columns` >= n elements: what lies beyond n, up to
// a whole vector, may be overwritten.
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
    T* packed_b;  // as many elements as gemm_packed_elements says, aligned to 64 bytes
};

// out[i] = sum over the entries e of row i of value[e]·x[col[e]], + bias. Rows of x have `x_columns` >= width
// readable elements, so that a vector may read past `width`.
template <class T, class Index>
struct SpmmParams {
    int64_t rows, width;
    const Index* rowptr;
    const Index* col;
    const T* value;  // or null: ones
    const T* x;
    int64_t x_stride;
    int64_t x_columns;
    const T* bias;  // [width], or null
    T* out;
    int64_t out_stride;
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
    double* partial;        // or null: for each row of each result nine sums, the gradient of the way back
};

template <class T>
struct KernelTable {
    void (*scaled_add)(int64_t numel, T alpha, const T* x, const T* y, T* z, const ParallelFor& parallel_for);
    // Elements that packing a k by n matrix takes; a negative number if that overflows.
    int64_t (*gemm_packed_elements)(int64_t k, int64_t n);
    void (*gemm)(const GemmParams<T>& params, const ParallelFor& parallel_for);
    void (*spmm_int32)(const SpmmParams<T, int32_t>& params, const ParallelFor& parallel_for);
    void (*spmm_int64)(const SpmmParams<T, int64_t>& params, const ParallelFor& parallel_for);
    void (*warp_perspective)(const WarpParams<T>& params, const ParallelFor& parallel_for);
    void (*scaled_add_backward)(int64_t numel, T alpha, const T* grad, T* grad_x, T* grad_y,
                                const ParallelFor& parallel_for);
    void (*warp_perspective_backward)(const WarpBackwardParams<T>& params, const ParallelFor& parallel_for);
};

struct Kernels {
    const char* name;
    int64_t vector_bytes;
    KernelTable<float> float32;
    KernelTable<double> float64;

    template <class T>
    const KernelTable<T>& table() const {
        if constexpr (sizeof(T) == sizeof(float)) {
            return float32;
        } else {
            return float64;
        }
    }
};

extern const Kernels kDefaultKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// The best table this processor can run.
const Kernels& kernels();

}  // namespace opserve::cpu
