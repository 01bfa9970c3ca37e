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

template <class T>
OPSERVE_INLINE void turn_back(const WarpParams<T>& p, int64_t image, Adjugate& back) {
    const int64_t at = p.matrix_per_image ? image * 9 : 0;
    if (p.matrix_is_double) {
        adjugate(static_cast<const double*>(p.matrix) + at, back);
    } else {
        adjugate(static_cast<const float*>(p.matrix) + at, back);
    }
}

// Where a run of destination pixels of one row comes from.
constexpr int64_t kRun = 64;
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
OPSERVE_INLINE void warp_run_exactly(const WarpParams<T>& p, const Adjugate& back, int64_t image, int64_t row,
                                     int64_t column, int64_t count, Run<T>& run) {
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

// --- float32 images
//
// Coordinates in float64 take more time than all the rest. Plain float32 would put them as much as 1e-4
// pixels apart at the far end of a large image; the distance from the middle of a run is small, however, and
// float32 holds it well. With the homography written around the middle m, in float64 and once a run,
//     source(m + t) = source(m) + slope·t / (1 + bend·t),
// what is left to each pixel is one fraction. Its error stays below 5e-5 pixels for the runs that kReach and
// kFlattest allow (below 1e-5 where the scale is not far from 1); others are computed in float64.

constexpr int64_t kPlans = 8;         // runs planned together, in vectors
constexpr int64_t kBand = 32;         // rows that are swept before the next columns
constexpr double kReach = 128.0;      // pixels from the source of the middle
constexpr double kFlattest = 0.5;     // of 1 + bend·t: how near the horizon may be
constexpr double kMargin = 1.0 / 64;  // pixels: far more than the error, so that inside is inside
constexpr double kSteep = 1.0 / 16;   // rows of the source for each column of the result

// How a run is sampled: in float64; not at all; with a look at each neighbour; without; from whole rows.
constexpr int64_t kExact = 0, kOutside = 1, kMixed = 2, kInside = 3, kAlong = 4;

// kPlans runs side by side or, where the source of a row is steep, one below the other, so that what one row
// has brought into the cache serves the next ones.
struct Block {
    int64_t row, column;
    int64_t down, across;  // from run to run
    int64_t runs;
};

struct Plans {
    double column[kPlans], row[kPlans];  // of the source of the middle, rounded down
    double column_fraction[kPlans], row_fraction[kPlans];
    double column_slope[kPlans], row_slope[kPlans], bend[kPlans];
    int64_t mode[kPlans];
};

OPSERVE_INLINE DoubleVector least(const DoubleVector& a, const DoubleVector& b) { return a < b ? a : b; }
OPSERVE_INLINE DoubleVector most(const DoubleVector& a, const DoubleVector& b) { return a > b ? a : b; }
OPSERVE_INLINE LongVector choose(const LongVector& condition, int64_t yes, const LongVector& no) {
    return condition ? LongVector{} + yes : no;
}

OPSERVE_INLINE void plan(const Adjugate& back, const Block& block, int64_t out_w, int64_t h, int64_t w,
                         Plans& plans) {
    constexpr double half = kRun / 2;
    const double dx = back.m[0], dy = back.m[3], dw = back.m[6], end = static_cast<double>(out_w);
    const double right = static_cast<double>(w) - 1.0, bottom = static_cast<double>(h) - 1.0;
    for (int64_t i = 0; i < kPlans; i += kDoubles) {
        DoubleVector middle, line;
        for (int64_t j = 0; j < kDoubles; ++j) {
            middle[j] = static_cast<double>(block.column + (i + j) * block.across) + half;
            line[j] = static_cast<double>(block.row + (i + j) * block.down);
        }
        const DoubleVector x0 = back.m[1] * line + back.m[2], y0 = back.m[4] * line + back.m[5],
                           w0 = back.m[7] * line + back.m[8];
        const DoubleVector scale = 1.0 / (dw * middle + w0);
        const DoubleVector x = (dx * middle + x0) * scale, y = (dy * middle + y0) * scale;
        const DoubleVector x_slope = (dx - x * dw) * scale, y_slope = (dy - y * dw) * scale,
                           bend = dw * scale;
        const DoubleVector last = least(DoubleVector{} + (half - 1.0), end - 1.0 - middle);
        const DoubleVector first_divisor = 1.0 - bend * half, last_divisor = 1.0 + bend * last;
        const DoubleVector flattest = least(first_divisor, last_divisor);
        const DoubleVector x_steep = most(x_slope, -x_slope), y_steep = most(y_slope, -y_slope);
        const DoubleVector before = -half / first_divisor, after = last / last_divisor;
        const DoubleVector x1 = x + x_slope * before, x2 = x + x_slope * after;
        const DoubleVector y1 = y + y_slope * before, y2 = y + y_slope * after;
        const DoubleVector left_most = least(x1, x2), right_most = most(x1, x2);
        const DoubleVector top_most = least(y1, y2), bottom_most = most(y1, y2);
        // The source of a run is a piece of a straight line: what holds at its ends holds between.
        const LongVector inside = (left_most >= kMargin) & (right_most <= right - kMargin) &
                                  (top_most >= kMargin) & (bottom_most <= bottom - kMargin);
        const LongVector outside = (right_most < -1.0 - kMargin) | (left_most > right + 1.0 + kMargin) |
                                   (bottom_most < -1.0 - kMargin) | (top_most > bottom + 1.0 + kMargin);
        // Comparisons with NaN are false: a middle at infinity is left to the exact way.
        const DoubleVector reach = flattest * (kReach / half);
        const LongVector near = (flattest >= kFlattest) & (x_steep <= reach) & (y_steep <= reach);
        const DoubleVector square = flattest * flattest * (1.0 / (kFloats - 1));
        const LongVector along = (y_steep < square) & (x_steep < square * (2 * kFloats - 2.5));
        const LongVector touching = choose(inside, kInside, LongVector{} + kMixed);
        const LongVector mode = choose(outside, kOutside, choose(inside & along, kAlong, touching));
        const DoubleVector column = round_down(x), row = round_down(y);
        store<double>(column, plans.column + i);
        store<double>(row, plans.row + i);
        store<double>(x - column, plans.column_fraction + i);
        store<double>(y - row, plans.row_fraction + i);
        store<double>(x_slope, plans.column_slope + i);
        store<double>(y_slope, plans.row_slope + i);
        store<double>(bend, plans.bend + i);
        const LongVector chosen = near ? mode : LongVector{} + kExact;
        __builtin_memcpy(plans.mode + i, &chosen, sizeof(chosen));
    }
}

// Columns and rows become distances from the plan's. Whole vectors are filled, by repeating the last pixel.
OPSERVE_INLINE void locate_near(const Plans& plans, int64_t which, int64_t count, Run<float>& run) {
    constexpr float half = kRun / 2;
    const auto narrow = [which](const double* from) { return static_cast<float>(from[which]); };
    const float x = narrow(plans.column_fraction), y = narrow(plans.row_fraction);
    const float x_slope = narrow(plans.column_slope), y_slope = narrow(plans.row_slope);
    const float bend = narrow(plans.bend);
    const FloatVector last = FloatVector{} + (static_cast<float>(count) - 1.0F - half);
    FloatVector t;
    for (int64_t i = 0; i < kFloats; ++i) t[i] = static_cast<float>(i) - half;
    for (int64_t i = 0; i < count; i += kFloats) {
        const FloatVector at = t < last ? t : last;
        const FloatVector step = at / (1.0F + bend * at);
        IntVector column, row;
        FloatVector right, below;
        split(x_slope * step + x, column, right);
        split(y_slope * step + y, row, below);
        __builtin_memcpy(run.column + i, &column, sizeof(column));
        __builtin_memcpy(run.row + i, &row, sizeof(row));
        store<float>(right, run.right + i);
        store<float>(below, run.below + i);
        t += static_cast<float>(kFloats);
    }
}

OPSERVE_INLINE FloatVector weigh(const FloatVector& right, const FloatVector& below, const FloatVector& p00,
                                 const FloatVector& p01, const FloatVector& p10, const FloatVector& p11) {
    const FloatVector left = 1.0F - right, above = 1.0F - below;
    return above * (left * p00 + right * p01) + below * (left * p10 + right * p11);
}

// Past the caches, where the result is too large for them: a store then does not first fetch what it
template <bool kStream>
OPSERVE_INLINE void put(const FloatVector& values, int64_t count, float* out) {
    if (count < kFloats) {
        store_some<float>(values, count, out);
    } else if constexpr (kStream) {
        stream(values, out);
    } else {
        store<float>(values, out);
    }
}

OPSERVE_INLINE void load_run(const Run<float>& run, int64_t i, IntVector& column, IntVector& row,
                             FloatVector& right, FloatVector& below) {
    __builtin_memcpy(&column, run.column + i, sizeof(column));
    __builtin_memcpy(&row, run.row + i, sizeof(row));
    load(run.right + i, right);
    load(run.below + i, below);
}

// In all that follows `origin` is the plan's pixel, which may lie outside the image, and `stride` the
// distance of its rows.
template <bool kStream>
OPSERVE_INLINE void sample_near_inside(const Run<float>& run, int64_t i, const float* origin, int64_t stride,
                                       int64_t count, float* out) {
    IntVector column, row;
    FloatVector right, below, p00, p01, p10, p11;
    load_run(run, i, column, row, right, below);
    const IntVector at = row * static_cast<int32_t>(stride) + column;
    gather_pairs(origin, at, p00, p01);
    gather_pairs(origin + stride, at, p10, p11);
    put<kStream>(weigh(right, below, p00, p01, p10, p11), count - i, out + i);
}

// Neighbours outside the image are 0, one by one. What is fetched in their place lies inside: the image is at
// least two columns wide.
template <bool kStream>
OPSERVE_INLINE void sample_near_mixed(const Run<float>& run, int64_t i, const float* origin, int64_t stride,
                                      const IntVector& first_column, const IntVector& last_column,
                                      const IntVector& first_row, const IntVector& last_row, int64_t count,
                                      float* out) {
    const FloatVector zero{};
    IntVector column, row;
    FloatVector right, below, a, b, c, d;
    load_run(run, i, column, row, right, below);
    IntVector pair = column > first_column ? column : first_column;
    pair = pair < last_column ? pair : last_column;
    IntVector upper = row > first_row ? row : first_row;
    upper = upper < last_row ? upper : last_row;
    IntVector lower = row + 1 > first_row ? row + 1 : first_row;
    lower = lower < last_row ? lower : last_row;
    gather_pairs(origin, upper * static_cast<int32_t>(stride) + pair, a, b);
    gather_pairs(origin, lower * static_cast<int32_t>(stride) + pair, c, d);
    const IntVector shift = column - pair;
    const FloatVector p00 = shift == 0 ? a : shift == 1 ? b : zero;
    const FloatVector p01 = shift == 0 ? b : shift == -1 ? a : zero;
    const FloatVector p10 = shift == 0 ? c : shift == 1 ? d : zero;
    const FloatVector p11 = shift == 0 ? d : shift == -1 ? c : zero;
    const IntVector has_above = row == upper, has_below = row + 1 == lower;
    put<kStream>(weigh(right, below, has_above ? p00 : zero, has_above ? p01 : zero, has_below ? p10 : zero,
                       has_below ? p11 : zero),
                 count - i, out + i);
}

// Where the source runs nearly along the rows of the image, a vector of pixels lies within two vectors of
// columns and three rows: those are loaded whole, and the pixels picked from registers. A vector that does
// not fit after all is fetched pixel by pixel.
#if OPSERVE_VECTOR_BYTES == 64
constexpr bool kHasAlong = true;

template <bool kStream>
OPSERVE_INLINE void sample_along(const Run<float>& run, int64_t i, const float* origin, int64_t stride,
                                 int64_t last_row, int64_t count, float* out) {
    IntVector column, row;
    FloatVector right, below;
    load_run(run, i, column, row, right, below);
    const int64_t end = i + kFloats - 1;
    const int32_t first_column = run.column[i] < run.column[end] ? run.column[i] : run.column[end];
    const int32_t first_row = run.row[i] < run.row[end] ? run.row[i] : run.row[end];
    const __m512i pick = (__m512i)(column - first_column), down = (__m512i)(row - first_row);
    const __mmask16 fits = _mm512_cmple_epu32_mask(pick, _mm512_set1_epi32(2 * kFloats - 2)) &
                           _mm512_cmple_epu32_mask(down, _mm512_set1_epi32(1));
    if (__builtin_expect(fits != 0xffff, 0)) {
        sample_near_inside<kStream>(run, i, origin, stride, count, out);
        return;
    }
    const float* p = origin + first_row * stride + first_column;
    const float* q = p + stride;
    const float* r = first_row + 2 <= last_row ? q + stride : q;
    const __m512i next = _mm512_add_epi32(pick, _mm512_set1_epi32(1));
    const __mmask16 lower = _mm512_test_epi32_mask(down, down);
    const __m512 p_low = _mm512_loadu_ps(p), p_high = _mm512_loadu_ps(p + kFloats);
    const __m512 q_low = _mm512_loadu_ps(q), q_high = _mm512_loadu_ps(q + kFloats);
    const __m512 r_low = _mm512_loadu_ps(r), r_high = _mm512_loadu_ps(r + kFloats);
    const __m512 p0 = _mm512_permutex2var_ps(p_low, pick, p_high),
                 p1 = _mm512_permutex2var_ps(p_low, next, p_high);
    const __m512 q0 = _mm512_permutex2var_ps(q_low, pick, q_high),
                 q1 = _mm512_permutex2var_ps(q_low, next, q_high);
    const __m512 r0 = _mm512_permutex2var_ps(r_low, pick, r_high),
                 r1 = _mm512_permutex2var_ps(r_low, next, r_high);
    put<kStream>(weigh(right, below, (FloatVector)_mm512_mask_blend_ps(lower, p0, q0),
                       (FloatVector)_mm512_mask_blend_ps(lower, p1, q1),
                       (FloatVector)_mm512_mask_blend_ps(lower, q0, r0),
                       (FloatVector)_mm512_mask_blend_ps(lower, q1, r1)),
                 count - i, out + i);
}
#else
constexpr bool kHasAlong = false;
template <bool>
OPSERVE_INLINE void sample_along(const Run<float>&, int64_t, const float*, int64_t, int64_t, int64_t,
                                 float*) {}
#endif

// Whether whole vectors can be loaded wherever this run needs them, without passing the end of the image.
OPSERVE_INLINE bool can_sample_along(const WarpParams<float>& p, const Plans& plans, int64_t which,
                                     int64_t count, const Run<float>& run) {
    const int64_t end = count - 1;
    // One more each way: a vector within the run may lie beyond both its ends by a rounding.
    const int64_t row = static_cast<int64_t>(plans.row[which]) + max_of(run.row[0], run.row[end]) + 1;
    const int64_t column =
        static_cast<int64_t>(plans.column[which]) + max_of(run.column[0], run.column[end]) + 1;
    return min_of(row + 2, p.h - 1) * p.stride_h + column + 2 * kFloats <= (p.h - 1) * p.stride_h + p.w;
}

// Where a run is read and written, in elements from the start of a channel.
struct Place {
    int64_t mode, count;
    int64_t row, column;  // of the origin
    int64_t from, to;
};

template <bool kStream>
OPSERVE_INLINE void sample_near(const WarpParams<float>& p, const Place& place, const Run<float>& run,
                                const float* plane, float* out) {
    const int64_t stride = p.stride_h, count = place.count;
    if (place.mode == kOutside) {
        for (int64_t i = 0; i < count; i += kFloats) put<kStream>(FloatVector{}, count - i, out + i);
        return;
    }
    const float* origin = plane + place.from;
    if (kHasAlong && place.mode == kAlong) {
        for (int64_t i = 0; i < count; i += kFloats) {
            sample_along<kStream>(run, i, origin, stride, p.h - 1 - place.row, count, out);
        }
    } else if (place.mode == kMixed) {
        // A run does not reach as far as this from its origin.
        constexpr int64_t far = 4096;
        const IntVector none{};
        const IntVector first_column = none + static_cast<int32_t>(max_of(-far, -place.column)),
                        last_column = none + static_cast<int32_t>(min_of(far, p.w - 2 - place.column)),
                        first_row = none + static_cast<int32_t>(max_of(-far, -place.row)),
                        last_row = none + static_cast<int32_t>(min_of(far, p.h - 1 - place.row));
        for (int64_t i = 0; i < count; i += kFloats) {
            sample_near_mixed<kStream>(run, i, origin, stride, first_column, last_column, first_row, last_row,
                                       count, out);
        }
    } else {
        for (int64_t i = 0; i < count; i += kFloats) {
            sample_near_inside<kStream>(run, i, origin, stride, count, out);
        }
    }
}

// The runs are located first and shared by the channels.
OPSERVE_INLINE void warp_block(const WarpParams<float>& p, const Adjugate& back, int64_t image,
                               const Block& block, Run<float>* runs) {
    // Offsets from the origin are held in 32 bits, and neighbours fetched in pairs.
    const bool plannable = p.w >= 2 && p.h >= 1 && p.stride_h >= 0 && p.stride_h < (int64_t{1} << 22);
    Plans plans;
    Place places[kPlans];
    if (plannable) plan(back, block, p.out_w, p.h, p.w, plans);
    for (int64_t i = 0; i < block.runs; ++i) {
        const int64_t row = block.row + i * block.down, column = block.column + i * block.across;
        const int64_t count = min_of(kRun, p.out_w - column);
        Place& place = places[i];
        place.mode = plannable ? plans.mode[i] : kExact;
        place.count = count;
        place.to = row * p.out_w + column;
        if (place.mode == kExact) {
            warp_run_exactly(p, back, image, row, column, count, runs[i]);
        } else if (place.mode != kOutside) {
            place.row = static_cast<int64_t>(plans.row[i]);
            place.column = static_cast<int64_t>(plans.column[i]);
            place.from = place.row * p.stride_h + place.column;
            locate_near(plans, i, count, runs[i]);
            if (place.mode == kAlong && !can_sample_along(p, plans, i, count, runs[i])) place.mode = kInside;
        }
    }
    const int64_t bytes = p.n * p.c * p.out_h * p.out_w * static_cast<int64_t>(sizeof(float));
    const bool large = bytes >= kStreamFrom && bytes < kStreamUpTo;
    for (int64_t channel = 0; channel < p.c; ++channel) {
        const float* plane = p.image + image * p.stride_n + channel * p.stride_c;
        float* out_plane = p.out + (image * p.c + channel) * p.out_h * p.out_w;
        for (int64_t i = 0; i < block.runs; ++i) {
            if (places[i].mode == kExact) continue;
            float* out = out_plane + places[i].to;
            if (kCanStream && large && reinterpret_cast<uintptr_t>(out) % OPSERVE_VECTOR_BYTES == 0) {
                sample_near<true>(p, places[i], runs[i], plane, out);
            } else {
                sample_near<false>(p, places[i], runs[i], plane, out);
            }
        }
    }
}

OPSERVE_INLINE void warp_band(const WarpParams<float>& p, const Adjugate& back, int64_t image, int64_t from,
                              int64_t to) {
    Run<float> runs[kPlans];
    // In the middle of the band: which shape the blocks have does not change a result.
    const double x = 0.5 * static_cast<double>(p.out_w), y = 0.5 * static_cast<double>(from + to);
    const double divisor = back.m[6] * x + back.m[7] * y + back.m[8];
    const double source = (back.m[3] * x + back.m[4] * y + back.m[5]) / divisor;
    const double slope = (back.m[3] - source * back.m[6]) / divisor;
    if (slope > -kSteep && slope < kSteep) {
        for (int64_t column = 0; column < p.out_w; column += kPlans * kRun) {
            const int64_t runs_left = (p.out_w - column + kRun - 1) / kRun;
            for (int64_t row = from; row < to; ++row) {
                warp_block(p, back, image, {row, column, 0, kRun, min_of(kPlans, runs_left)}, runs);
            }
        }
    } else {
        for (int64_t column = 0; column < p.out_w; column += kRun) {
            for (int64_t row = from; row < to; row += kPlans) {
                warp_block(p, back, image, {row, column, 1, 0, min_of(kPlans, to - row)}, runs);
            }
        }
    }
}

// --- float64 images

OPSERVE_INLINE void warp_band(const WarpParams<double>& p, const Adjugate& back, int64_t image, int64_t from,
                              int64_t to) {
    Run<double> run;
    for (int64_t column = 0; column < p.out_w; column += kRun) {
        for (int64_t row = from; row < to; ++row) {
            warp_run_exactly(p, back, image, row, column, min_of(kRun, p.out_w - column), run);
        }
    }
}

template <class T>
void warp_perspective(const WarpParams<T>& p, const ParallelFor& parallel_for) {
    if (p.n == 0 || p.c == 0 || p.out_h == 0 || p.out_w == 0) return;
    const int64_t grain = max_of(1, 8192 / max_of(1, p.out_w * p.c));
    parallel_for(p.n * p.out_h, grain, [&p](int64_t begin, int64_t end) {
        Adjugate back{};
        int64_t turned = -1;
        for (int64_t line = begin; line < end;) {
            const int64_t image = line / p.out_h, row = line % p.out_h;
            const int64_t rows = min_of(kBand, min_of(end - line, p.out_h - row));
            if (image != turned) turn_back(p, image, back);
            turned = image;
            warp_band(p, back, image, row, row + rows);
            line += rows;
        }
        finish_streams();
    });
}
