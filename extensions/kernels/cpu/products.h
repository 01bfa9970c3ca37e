// Products of matrices, as parameters of the routines that compute them.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace opserve::cpu {

template <class T>
struct Matrix {
    T* data;
    int64_t rows, columns;
    int64_t stride;
    // Whether rows have room for whole vectors, up to `stride`.
    bool padded = false;
    // Whether element (i, j) is at [j * stride + i].
    bool is_transposed = false;

    operator Matrix<const T>() const { return {data, rows, columns, stride, padded, is_transposed}; }
    Matrix transposed() const { return {data, columns, rows, stride, padded, !is_transposed}; }
    int64_t accessible_columns() const { return padded ? stride : columns; }
};

template <class T>
Matrix<const T> matrix(const void* data, int64_t rows, int64_t columns, int64_t stride) {
    return {static_cast<const T*>(data), rows, columns, stride};
}
template <class T>
Matrix<T> matrix(void* data, int64_t rows, int64_t columns) {
    return {static_cast<T*>(data), rows, columns, columns};
}

// C = A·B + bias.
template <class T>
GemmParams<T> dense_product(const Matrix<const T>& a, const Matrix<const T>& b, const Matrix<T>& c, T* packed,
                            const T* bias = nullptr) {
    return {
        .m = a.rows,
        .n = b.columns,
        .k = a.columns,
        .a = a.data,
        .a_stride = a.stride,
        .b = b.data,
        .b_stride = b.stride,
        .bias = bias,
        .c = c.data,
        .c_stride = c.stride,
        .c_columns = c.accessible_columns(),
        .packed_b = packed,
        .a_transposed = a.is_transposed,
        .b_transposed = b.is_transposed,
        .b_padded = b.padded && !b.is_transposed,
    };
}

template <class T, class Index>
struct CsrMatrix {
    const Index* rowptr;
    const Index* col;
    const T* value;  // or null: ones
};

// out = A·x + bias, for A with as many rows as x. The columns of A are checked if `check`.
template <class T, class Index>
SpmmParams<T, Index> sparse_product(const CsrMatrix<T, Index>& a, const Matrix<const T>& x,
                                    const Matrix<T>& out, bool check, const T* bias = nullptr) {
    return {
        .rows = x.rows,
        .width = x.columns,
        .rowptr = a.rowptr,
        .col = a.col,
        .check = check,
        .value = a.value,
        .x = x.data,
        .x_rows = x.rows,
        .x_stride = x.stride,
        .x_columns = x.accessible_columns(),
        .bias = bias,
        .out = out.data,
        .out_stride = out.stride,
        .out_columns = out.accessible_columns(),
    };
}

}  // namespace opserve::cpu
