// The matrix takes the source to the destination; each destination pixel needs the way back. A homography is
// defined up to a factor, so the adjugate serves as the inverse.
struct Adjugate {
    double m[9];
};

template <class M>
OPSERVE_INLINE void adjugate(const M* m, Adjugate& out) {
    double a[9], largest = 0.0;
    for (int i = 0; i < 9; ++i) {
        const double magnitude = m[i] < 0 ? -static_cast<double>(m[i]) : static_cast<double>(m[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    // By a power of two, so that whole pixels stay whole: 2^-e for a largest element of 2^e and more, as far
    // as both are normal numbers.
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &largest, sizeof(bits));
    const uint64_t exponent = bits >> 52;
    bits = (exponent < 2045 ? 2046 - exponent : 1) << 52;
    double scale = 0.0;
    __builtin_memcpy(&scale, &bits, sizeof(scale));
    for (int i = 0; i < 9; ++i) a[i] = static_cast<double>(m[i]) * scale;
    out.m[0] = a[4] * a[8] - a[5] * a[7];
    out.m[1] = a[2] * a[7] - a[1] * a[8];
    out.m[2] = a[1] * a[5] - a[2] * a[4];
    out.m[3] = a[5] * a[6] - a[3] * a[8];
    out.m[4] = a[0] * a[8] - a[2] * a[6];
    out.m[5] = a[2] * a[3] - a[0] * a[5];
    out.m[6] = a[3] * a[7] - a[4] * a[6];
    out.m[7] = a[1] * a[6] - a[0] * a[7];
    out.m[8] = a[0] * a[4] - a[1] * a[3];
}

// Where a run of destination pixels of one row comes from.
constexpr int64_t kRun = 128;
template <class T>
struct Run {
    int32_t column[kRun], row[kRun];  // of the upper left neighbour
    T right[kRun], below[kRun];       // weights of the neighbours to the right and below
    enum { kOutside, kMixed, kInside } where;
};

template <class T>
OPSERVE_INLINE void locate(const Adjugate& back, int64_t out_row, int64_t out_column, int64_t count,
                           int64_t h, int64_t w, Run<T>& run) {
    const double y = static_cast<double>(out_row);
    const double x0 = back.m[1] * y + back.m[2], y0 = back.m[4] * y + back.m[5],
                 w0 = back.m[7] * y + back.m[8];
    const double dx = back.m[0], dy = back.m[3], dw = back.m[6];
    // Far outside is as good as just outside, and fits 32 bits. The comparisons send NaN (0/0) outside as
    // well.
    const double right_limit = static_cast<double>(w) + 1.0, bottom_limit = static_cast<double>(h) + 1.0;
    for (int64_t i = 0; i < count; ++i) {
        const double x = static_cast<double>(static_cast<int32_t>(out_column + i));
        const double scale = 1.0 / (dw * x + w0);
        double sx = (dx * x + x0) * scale, sy = (dy * x + y0) * scale;
        sx = sx > -2.0 ? sx : -2.0;
        sy = sy > -2.0 ? sy : -2.0;
        sx = sx < right_limit ? sx : right_limit;
        sy = sy < bottom_limit ? sy : bottom_limit;
        int32_t column = static_cast<int32_t>(sx), row = static_cast<int32_t>(sy);
        column -= sx < static_cast<double>(column) ? 1 : 0;
        row -= sy < static_cast<double>(row) ? 1 : 0;
        run.column[i] = column;
        run.row[i] = row;
        run.right[i] = static_cast<T>(sx - static_cast<double>(column));
        run.below[i] = static_cast<T>(sy - static_cast<double>(row));
    }
    const int32_t last_column = static_cast<int32_t>(w) - 1, last_row = static_cast<int32_t>(h) - 1;
    int32_t inside = 1, touched = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int32_t column = run.column[i], row = run.row[i];
        inside &= (column >= 0) & (column < last_column) & (row >= 0) & (row < last_row);
        touched |= (column >= -1) & (column <= last_column) & (row >= -1) & (row <= last_row);
    }
    run.where = inside ? Run<T>::kInside : touched ? Run<T>::kMixed : Run<T>::kOutside;
}

template <class T>
OPSERVE_INLINE void sample_inside(const Run<T>& run, const T* plane, int64_t stride, int64_t count, T* out) {
    for (int64_t i = 0; i < count; ++i) {
        const T* p = plane + run.row[i] * stride + run.column[i];
        const T right = run.right[i], below = run.below[i];
        const T left = T(1) - right, above = T(1) - below;
        out[i] = above * (left * p[0] + right * p[1]) + below * (left * p[stride] + right * p[stride + 1]);
    }
}

template <class T>
OPSERVE_INLINE void sample_mixed(const Run<T>& run, const T* plane, int64_t stride, int64_t h, int64_t w,
                                 int64_t count, T* out) {
    for (int64_t i = 0; i < count; ++i) {
        const int64_t column = run.column[i], row = run.row[i];
        const bool has_left = column >= 0 && column < w, has_right = column >= -1 && column < w - 1;
        const bool has_above = row >= 0 && row < h, has_below = row >= -1 && row < h - 1;
        const T right = run.right[i], below = run.below[i];
        const T left = T(1) - right, above = T(1) - below;
        // An offset, not a pointer: the neighbour it stands for may lie before the image.
        const int64_t at = row * stride + column;
        const T p00 = has_above && has_left ? plane[at] : T(0);
        const T p01 = has_above && has_right ? plane[at + 1] : T(0);
        const T p10 = has_below && has_left ? plane[at + stride] : T(0);
        const T p11 = has_below && has_right ? plane[at + stride + 1] : T(0);
        out[i] = above * (left * p00 + right * p01) + below * (left * p10 + right * p11);
    }
}

template <class T>
void warp_perspective(const WarpParams<T>& p, const ParallelFor& parallel_for) {
    if (p.n == 0 || p.c == 0 || p.out_h == 0 || p.out_w == 0) return;
    const int64_t grain = max_of(1, 8192 / max_of(1, p.out_w * p.c));
    parallel_for(p.n * p.out_h, grain, [&p](int64_t begin, int64_t end) {
        Adjugate back{};
        Run<T> run;
        int64_t inverted = -1;
        for (int64_t line = begin; line < end; ++line) {
            const int64_t image = line / p.out_h, row = line % p.out_h;
            const int64_t matrix = p.matrix_per_image ? image : 0;
            if (matrix != inverted) {
                if (p.matrix_is_double) {
                    adjugate(static_cast<const double*>(p.matrix) + matrix * 9, back);
                } else {
                    adjugate(static_cast<const float*>(p.matrix) + matrix * 9, back);
                }
                inverted = matrix;
            }
            for (int64_t column = 0; column < p.out_w; column += kRun) {
                const int64_t count = min_of(kRun, p.out_w - column);
                locate(back, row, column, count, p.h, p.w, run);
                for (int64_t channel = 0; channel < p.c; ++channel) {
                    const T* plane = p.image + image * p.stride_n + channel * p.stride_c;
                    T* out = p.out + ((image * p.c + channel) * p.out_h + row) * p.out_w + column;
                    if (run.where == Run<T>::kInside) {
                        sample_inside(run, plane, p.stride_h, count, out);
                    } else if (run.where == Run<T>::kMixed) {
                        sample_mixed(run, plane, p.stride_h, p.h, p.w, count, out);
                    } else {
                        for (int64_t i = 0; i < count; ++i) out[i] = T(0);
                    }
                }
            }
        }
    });
}
