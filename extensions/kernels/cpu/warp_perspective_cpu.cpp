#include "opserve/warp_perspective.h"

#include <cinttypes>
#include <cmath>
#include <limits>

#include "../check.h"
#include "kernels.h"

namespace opserve::cpu {
namespace {

constexpr const char* kOp = "warp_perspective";

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
        // The determinant against the sum of its terms' magnitudes: below a few roundings of those there is
        // no digit left in it. This measure does not change when rows or columns are scaled.
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
Status check_matrices(const void* matrix, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        OPSERVE_RETURN_IF_ERROR(check_matrix(static_cast<const M*>(matrix) + i * 9, i));
    }
    return {};
}

template <class T>
void run(const WarpPerspectiveParams& p, const ParallelFor& parallel_for) {
    const WarpPerspectiveSizes& s = p.sizes;
    kernels().table<T>().warp_perspective(
        {s.n, s.c, s.h, s.w, s.out_h, s.out_w, static_cast<const T*>(p.image), p.image_stride_n,
         p.image_stride_c, p.image_stride_h, p.matrix, p.matrix_dtype == DType::kFloat64, s.matrix_per_image,
         static_cast<T*>(p.out)},
        parallel_for);
}

}  // namespace

Status warp_perspective(const WarpPerspectiveParams& params, const ParallelFor& parallel_for) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(kOp, "image", params.dtype));
    const int64_t matrices = params.sizes.matrix_per_image ? params.sizes.n : 1;
    OPSERVE_RETURN_IF_ERROR(params.matrix_dtype == DType::kFloat64
                                ? check_matrices<double>(params.matrix, matrices)
                                : check_matrices<float>(params.matrix, matrices));
    if (params.dtype == DType::kFloat32) {
        run<float>(params, parallel_for);
    } else {
        run<double>(params, parallel_for);
    }
    return {};
}

}  // namespace opserve::cpu
