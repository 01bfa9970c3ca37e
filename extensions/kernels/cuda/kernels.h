// The kernels that the operators share. They trust shapes and dtypes, which have been checked, but no index
// from the caller's data.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::cuda {

// A matrix with adjacent elements in each row.
inline Matrix matrix(const void* data, int64_t rows, int64_t columns, int64_t stride) {
    return {data, rows, columns, stride, 1};
}
inline Matrix matrix(const void* data, int64_t rows, int64_t columns) {
    return matrix(data, rows, columns, columns);
}

// C = A·B + bias.
Status product_kernel(const char* op, const ProductParams& params, Stream stream);

// sums[j] = the sum over i of x[i, j], in an order that depends on the sizes only.
struct ColumnSumParams {
    DType dtype;
    int64_t rows, columns;
    const void* x;
    int64_t x_stride;
    void* sums;       // [columns]
    void* workspace;  // column_sum_workspace elements of the accumulator's type
};
int64_t column_sum_workspace(int64_t rows, int64_t columns);  // negative if it overflows
Status column_sum(const char* op, const ColumnSumParams& params, Stream stream);

// The structure of an n by n matrix in CSR form.
struct Csr {
    DType index_dtype;
    int64_t n, nnz;
    const void* rowptr;
    const void* col;
};

// out = A·x + bias. Rows that the guards refuse are NaN. Here and below the rows of a matrix are dense.
struct AggregateParams {
    DType dtype;
    Csr csr;
    const void* value;  // or null: ones
    Matrix x;
    const void* bias;  // [x.columns], or null
    void* out;         // [n, x.columns], contiguous
};
Status aggregate(const char* op, const AggregateParams& params, Stream stream);

// sums += Aᵀ·x, atomically, in the accumulator type. Entries that the guards refuse are left out.
struct ScatterAddParams {
    DType dtype;
    Csr csr;
    const void* value;  // or null: ones
    Matrix x;
    void* sums;  // [n, x.columns], contiguous
};
Status scatter_add(const char* op, const ScatterAddParams& params, Stream stream);

// out[e] = left[i]·right[col[e]] for each entry e of row i; NaN if the guards refuse it.
struct SddmmParams {
    DType dtype;
    Csr csr;
    Matrix left, right;
    void* out;  // [nnz]
};
Status sddmm(const char* op, const SddmmParams& params, Stream stream);

// to = from, rounded from the accumulator type.
Status round_sums(const char* op, DType dtype, int64_t count, const void* from, void* to, Stream stream);

Status set_to_zero(const char* op, void* data, int64_t bytes, Stream stream);

// Bytes of one accumulator of a dtype.
constexpr int64_t sum_size(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

}  // namespace opserve::cuda
