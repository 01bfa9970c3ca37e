// The gradients of warp_perspective. One thread sums each element of a gradient, in the order of the result's
// pixels, so that it is the same with any number of threads.

// Whether a run can touch the rows [first, end) of the source.
OPSERVE_INLINE bool may_touch(const Adjugate& back, int64_t out_row, int64_t out_column, int64_t count,
                              int64_t first, int64_t end) {
    const double y = static_cast<double>(out_row), x1 = static_cast<double>(out_column),
                 x2 = static_cast<double>(out_column + count - 1);
    const double rest = back.m[4] * y + back.m[5], divisor_rest = back.m[7] * y + back.m[8];
    const double divisor1 = back.m[6] * x1 + divisor_rest, divisor2 = back.m[6] * x2 + divisor_rest;
    // Across the horizon anything is possible.
    if (!(divisor1 * divisor2 > 0.0)) return true;
    const double row1 = (back.m[3] * x1 + rest) / divisor1, row2 = (back.m[3] * x2 + rest) / divisor2;
    // Two rows of slack: one for the neighbour below, one for roundings.
    const double above = static_cast<double>(first) - 2.0, below = static_cast<double>(end) + 1.0;
    return !((row1 < above && row2 < above) || (row1 > below && row2 > below));
}

// Rows [first, end) of one image, in all channels.
template <class T>
void scatter_add(const WarpBackwardParams<T>& b, const Adjugate& back, int64_t image, int64_t first,
                 int64_t end) {
    const WarpParams<T>& p = b.forward;
    const int64_t h = p.h, w = p.w, plane_size = h * w, out_size = p.out_h * p.out_w;
    for (int64_t channel = 0; channel < p.c; ++channel) {
        T* rows = b.grad_image + (image * p.c + channel) * plane_size + first * w;
        for (int64_t i = 0; i < (end - first) * w; ++i) rows[i] = T(0);
    }
    Run<T> run;
    for (int64_t out_row = 0; out_row < p.out_h; ++out_row) {
        for (int64_t out_column = 0; out_column < p.out_w; out_column += kRun) {
            const int64_t count = min_of(kRun, p.out_w - out_column);
            if (!may_touch(back, out_row, out_column, count, first, end)) continue;
            locate(back, out_row, out_column, count, h, w, run);
            if (run.where == Run<T>::kOutside) continue;
            for (int64_t channel = 0; channel < p.c; ++channel) {
                const int64_t plane = image * p.c + channel;
                const T* grad = b.grad + plane * out_size + out_row * p.out_w + out_column;
                T* to = b.grad_image + plane * plane_size;
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t column = run.column[i], row = run.row[i];
                    const bool has_left = column >= 0 && column < w,
                               has_right = column >= -1 && column < w - 1;
                    const T right = run.right[i], below = run.below[i], g = grad[i];
                    const T left = T(1) - right, above = T(1) - below;
                    const int64_t at = row * w + column;
                    if (row >= first && row < end) {
                        if (has_left) to[at] += above * left * g;
                        if (has_right) to[at + 1] += above * right * g;
                    }
                    if (row + 1 >= first && row + 1 < end) {
                        if (has_left) to[at + w] += below * left * g;
                        if (has_right) to[at + w + 1] += below * right * g;
                    }
                }
            }
        }
    }
}

// With u = back·(x, y, 1) and the preimage s = (u0, u1)/u2, row i < 2 of the gradient of `back` is the sum of
// slope_i/u2·(x, y, 1), and row 2 that of -(slope_0·s_0 + slope_1·s_1)/u2·(x, y, 1), slope being the gradient
// of s. Nine sums over one row of the result.
template <class T>
void sum_slopes(const WarpBackwardParams<T>& b, const Adjugate& back, int64_t image, int64_t out_row,
                double* sums) {
    const WarpParams<T>& p = b.forward;
    const int64_t h = p.h, w = p.w, stride = p.stride_h;
    const double y = static_cast<double>(out_row);
    double total[9] = {};
    Run<T> run;
    for (int64_t out_column = 0; out_column < p.out_w; out_column += kRun) {
        const int64_t count = min_of(kRun, p.out_w - out_column);
        locate(back, out_row, out_column, count, h, w, run);
        if (run.where == Run<T>::kOutside) continue;
        double slopes[2][kRun] = {};
        for (int64_t channel = 0; channel < p.c; ++channel) {
            const T* plane = p.image + image * p.stride_n + channel * p.stride_c;
            const T* grad = b.grad + ((image * p.c + channel) * p.out_h + out_row) * p.out_w + out_column;
            for (int64_t i = 0; i < count; ++i) {
                const int64_t column = run.column[i], row = run.row[i];
                const bool has_left = column >= 0 && column < w, has_right = column >= -1 && column < w - 1;
                const bool has_above = row >= 0 && row < h, has_below = row >= -1 && row < h - 1;
                const int64_t at = row * stride + column;
                const double p00 = has_above && has_left ? plane[at] : T(0);
                const double p01 = has_above && has_right ? plane[at + 1] : T(0);
                const double p10 = has_below && has_left ? plane[at + stride] : T(0);
                const double p11 = has_below && has_right ? plane[at + stride + 1] : T(0);
                const double right = run.right[i], below = run.below[i], g = grad[i];
                slopes[0][i] += g * ((1.0 - below) * (p01 - p00) + below * (p11 - p10));
                slopes[1][i] += g * ((1.0 - right) * (p10 - p00) + right * (p11 - p01));
            }
        }
        for (int64_t i = 0; i < count; ++i) {
            const int64_t column = run.column[i], row = run.row[i];
            // A preimage outside may be at infinity, where there is nothing to sum.
            if (column < -1 || column >= w || row < -1 || row >= h) continue;
            const double x = static_cast<double>(out_column + i);
            const double scale = 1.0 / (back.m[6] * x + (back.m[7] * y + back.m[8]));
            const double sx = (back.m[0] * x + (back.m[1] * y + back.m[2])) * scale;
            const double sy = (back.m[3] * x + (back.m[4] * y + back.m[5])) * scale;
            const double across = slopes[0][i] * scale, down = slopes[1][i] * scale;
            const double rows[3] = {across, down, -(across * sx + down * sy)};
            for (int j = 0; j < 3; ++j) {
                total[3 * j] += rows[j] * x;
                total[3 * j + 1] += rows[j] * y;
                total[3 * j + 2] += rows[j];
            }
        }
    }
    for (int i = 0; i < 9; ++i) sums[i] = total[i];
}

template <class T>
void warp_perspective_backward(const WarpBackwardParams<T>& b, const ParallelFor& parallel_for) {
    const WarpParams<T>& p = b.forward;
    if (b.grad_image != nullptr && p.n > 0 && p.c > 0 && p.w > 0) {
        // Every range visits all pixels of the result, so there are few and large ones.
        const int64_t grain = max_of(1, 65536 / max_of(1, p.w * p.c));
        parallel_for(p.n * p.h, grain, [&b, &p](int64_t begin, int64_t end) {
            Adjugate back{};
            for (int64_t line = begin; line < end;) {
                const int64_t image = line / p.h, row = line % p.h;
                const int64_t rows = min_of(end - line, p.h - row);
                invert_homography(p, image, back);
                scatter_add(b, back, image, row, row + rows);
                line += rows;
            }
        });
    }
    if (b.partial != nullptr) {
        const int64_t grain = max_of(1, 4096 / max_of(1, p.out_w * max_of(1, p.c)));
        parallel_for(p.n * p.out_h, grain, [&b, &p](int64_t begin, int64_t end) {
            Adjugate back{};
            int64_t turned = -1;
            for (int64_t line = begin; line < end; ++line) {
                const int64_t image = line / p.out_h;
                if (image != turned) invert_homography(p, image, back);
                turned = image;
                sum_slopes(b, back, image, line % p.out_h, b.partial + line * 9);
            }
        });
    }
}
