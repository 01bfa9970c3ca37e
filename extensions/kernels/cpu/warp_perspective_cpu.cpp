#include "opserve/warp_perspective.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <limits>

#include "dispatch.h"
#include "kernels.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "warp_perspective";
constexpr const char* kBackwardOp = "_warp_perspective_backward";

// For a positive number of 2^e and more: 2^-e, as far as both are normal numbers.
double power_of_two_near_inverse(double value) {
    int exponent = 0;
    std::frexp(value, &exponent);
    return std::ldexp(1.0, std::max(-1022, std::min(1023, 1 - exponent)));
}

template <class M>
Status check_matrix(const M* m, int64_t index) {
    double largest = 0.0;
    for (int i = 0; i < 9; ++i) {
        if (!std::isfinite(m[i])) {
            return Status::invalid_argument(
                "opserve::%s: matrix must be finite, got %f at [%d, %d] of matrix %" PRId64, kOp,
                static_cast<double>(m[i]), i / 3, i % 3, index);
        }
        largest = std::fmax(largest, std::fabs(static_cast<double>(m[i])));
    }
    if (largest > 0.0) {
        double a[9];
        for (int i = 0; i < 9; ++i) a[i] = static_cast<double>(m[i]) / largest;
        // Compares the determinant with the sum of its terms' magnitudes: below a few of their roundings,
        // none of its digits is significant. This measure does not change when rows or columns are scaled.
        double determinant = 0.0, magnitude = 0.0;
        for (int i = 0; i < 3; ++i) {
            const int j = (i + 1) % 3, l = (i + 2) % 3;
            const double plus = a[i] * a[3 + j] * a[6 + l], minus = a[i] * a[3 + l] * a[6 + j];
            determinant += plus - minus;
            magnitude += std::fabs(plus) + std::fabs(minus);
        }
        if (std::fabs(determinant) >
            4.0 * static_cast<double>(std::numeric_limits<M>::epsilon()) * magnitude) {
            return {};
        }
    }
    return Status::invalid_argument("opserve::%s: matrix must be invertible, got a singular matrix %" PRId64,
                                    kOp, index);
}

template <class M>
Status check_each_matrix(const void* matrix, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        OPSERVE_RETURN_IF_ERROR(check_matrix(static_cast<const M*>(matrix) + i * 9, i));
    }
    return {};
}

int64_t matrix_count(const WarpPerspectiveSizes& sizes) { return sizes.matrix_per_image ? sizes.n : 1; }

Status check_matrices(const void* matrix, DType dtype, const WarpPerspectiveSizes& sizes) {
    const int64_t count = matrix_count(sizes);
    return dtype == DType::kFloat64 ? check_each_matrix<double>(matrix, count)
                                    : check_each_matrix<float>(matrix, count);
}

template <class T, class Params>
WarpParams<T> warp_params(const Params& p, T* out) {
    const WarpPerspectiveSizes& s = p.sizes;
    return {.n = s.n,
            .c = s.c,
            .h = s.h,
            .w = s.w,
            .out_h = s.out_h,
            .out_w = s.out_w,
            .image = static_cast<const T*>(p.image),
            .stride_n = p.image_stride_n,
            .stride_c = p.image_stride_c,
            .stride_h = p.image_stride_h,
            .matrix = p.matrix,
            .matrix_is_double = p.matrix_dtype == DType::kFloat64,
            .matrix_per_image = s.matrix_per_image,
            .out = out};
}

// With the inverse homography B, the adjugate of the matrix A, and G its gradient: since the scale of B does
// not matter, the gradient of A is that through its inverse, -Bᵀ·G·Bᵀ / det A.
template <class M>
void finish_matrix(const M* matrix, const double* partial, int64_t rows, M* grad) {
    double g[9] = {}, a[9], b[9], largest = 0.0;
    for (int64_t row = 0; row < rows; ++row) {
        for (int i = 0; i < 9; ++i) g[i] += partial[row * 9 + i];
    }
    for (int i = 0; i < 9; ++i) largest = std::fmax(largest, std::fabs(static_cast<double>(matrix[i])));
    // The sums belong to the inverse homography of the matrix times this, which the kernel used.
    const double factor = power_of_two_near_inverse(largest);
    for (int i = 0; i < 9; ++i) a[i] = static_cast<double>(matrix[i]) * factor;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            // Transposed, with rows and columns of the minor in cyclic order, which includes the sign.
            const int r1 = (j + 1) % 3, r2 = (j + 2) % 3, c1 = (i + 1) % 3, c2 = (i + 2) % 3;
            b[i * 3 + j] = a[r1 * 3 + c1] * a[r2 * 3 + c2] - a[r1 * 3 + c2] * a[r2 * 3 + c1];
        }
    }
    const double determinant = a[0] * b[0] + a[1] * b[3] + a[2] * b[6];
    double intermediate[9];  // G·Bᵀ
    for (int i = 0; i < 9; ++i) {
        const double *row = g + i / 3 * 3, *other = b + i % 3 * 3;
        intermediate[i] = row[0] * other[0] + row[1] * other[1] + row[2] * other[2];
    }
    for (int i = 0; i < 9; ++i) {
        const double *column = b + i / 3, *other = intermediate + i % 3;
        const double product = column[0] * other[0] + column[3] * other[3] + column[6] * other[6];
        grad[i] = static_cast<M>(-product / determinant * factor);
    }
}

template <class M>
void finish_matrices(const WarpPerspectiveBackwardParams& p, const double* partial) {
    const int64_t count = matrix_count(p.sizes);
    const int64_t rows = p.sizes.out_h * (p.sizes.matrix_per_image ? 1 : p.sizes.n);
    for (int64_t i = 0; i < count; ++i) {
        finish_matrix(static_cast<const M*>(p.matrix) + i * 9, partial + i * rows * 9, rows,
                      static_cast<M*>(p.grad_matrix) + i * 9);
    }
}

}  // namespace

Status warp_perspective(const WarpPerspectiveParams& params, const ParallelFor& parallel_for) {
    return for_dtype(kOp, "image", params.dtype, [&]<class T>(T) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_matrices(params.matrix, params.matrix_dtype, params.sizes));
        kernels().table<T>().warp_perspective(warp_params<T>(params, static_cast<T*>(params.out)),
                                              parallel_for);
        return {};
    });
}

Status warp_perspective_backward_workspace_size(const WarpPerspectiveBackwardParams& params, int64_t* bytes) {
    *bytes = 0;
    if (params.grad_matrix == nullptr) return {};
    int64_t rows = 0;
    if (!checked_multiply(params.sizes.n, params.sizes.out_h, &rows) ||
        !checked_multiply(rows, 9 * int64_t{sizeof(double)}, bytes)) {
        return Status::invalid_argument(
            "opserve::%s: the workspace must fit in 2^63 bytes, got sizes that do not", kBackwardOp);
    }
    return {};
}

Status warp_perspective_backward(const WarpPerspectiveBackwardParams& params,
                                 const ParallelFor& parallel_for) {
    return for_dtype(kBackwardOp, "image", params.dtype, [&]<class T>(T) -> Status {
        OPSERVE_RETURN_IF_ERROR(check_matrices(params.matrix, params.matrix_dtype, params.sizes));
        auto* partial = params.grad_matrix != nullptr ? static_cast<double*>(params.workspace) : nullptr;
        kernels().table<T>().warp_perspective_backward({.forward = warp_params<T>(params, nullptr),
                                                        .grad = static_cast<const T*>(params.grad),
                                                        .grad_image = static_cast<T*>(params.grad_image),
                                                        .partial = partial},
                                                       parallel_for);
        if (params.grad_matrix == nullptr) return {};
        if (params.matrix_dtype == DType::kFloat64) {
            finish_matrices<double>(params, partial);
        } else {
            finish_matrices<float>(params, partial);
        }
        return {};
    });
}

}  // namespace opserve::cpu
