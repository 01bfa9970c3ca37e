// The matrix maps the source to the destination; each destination pixel needs the inverse. A homography is
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
    // Scaled by a power of two, so that whole pixels stay whole: 2^-e for a largest element of 2^e and more,
    // as far as both are normal numbers.
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
OPSERVE_INLINE void invert_homography(const WarpParams<T>& p, int64_t image, Adjugate& back) {
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
    // Far outside is equivalent to just outside, and fits in 32 bits. The comparisons send NaN (0/0) outside
    // as well.
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
        // An offset, not a pointer: the neighbour may be before the start of the image.
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
// Coordinates in float64 take more time than everything else. Plain float32 would be off by as much as 1e-4
// pixels at the far end of a large image; the distance from the middle of a run is small, however, and
// float32 represents it well. With the homography written around the middle m, in float64 and once per run,
//     source(m + t) = source(m) + slope·t / (1 + bend·t),
// each pixel only needs one fraction. Its error stays below 5e-5 pixels for the runs that kReach and
// kFlattest allow (below 1e-5 if the scale is not far from 1); others are computed in float64.

constexpr int64_t kPlans = 8;         // runs planned together, in vectors
constexpr int64_t kBand = 32;         // rows swept before the next columns
constexpr int64_t kChannels = 4;      // sampled together: more would compete for the same places in the cache
constexpr double kReach = 128.0;      // pixels from the source of the middle
constexpr double kFlattest = 0.5;     // of 1 + bend·t: how near the horizon may be
constexpr double kMargin = 1.0 / 64;  // pixels: far more than the error, so that inside is inside
constexpr double kSteep = 1.0 / 16;   // rows of the source for each column of the result

// How a run is sampled: in float64; not at all; with a check of each neighbour; without.
constexpr int64_t kExact = 0, kOutside = 1, kMixed = 2, kInside = 3;

// The shape of a block of up to kPlans runs: `wide` of them side by side, then as many in the next row.
struct Shape {
    int64_t wide;
    int64_t down[kPlans], across[kPlans];  // from the block's first pixel, by run
    double down_double[kPlans], across_double[kPlans];
};

OPSERVE_INLINE void make_shape(int64_t wide, Shape& shape) {
    shape.wide = wide;
    int64_t down = 0, across = 0;
    for (int64_t i = 0; i < kPlans; ++i) {
        shape.down[i] = down;
        shape.across[i] = across * kRun;
        shape.down_double[i] = static_cast<double>(down);
        shape.across_double[i] = static_cast<double>(across * kRun);
        if (++across == wide) {
            across = 0;
            ++down;
        }
    }
}

struct Plans {
    double column[kPlans], row[kPlans];  // of the source of the middle, rounded down
    double column_fraction[kPlans], row_fraction[kPlans];
    double column_slope[kPlans], row_slope[kPlans], bend[kPlans];
    int64_t mode[kPlans];
    // Whether the source runs nearly along the rows of the image; and whether whole vectors can be loaded
    // wherever it is.
    int64_t along[kPlans], room[kPlans];
};

OPSERVE_INLINE DoubleVector least(const DoubleVector& a, const DoubleVector& b) { return a < b ? a : b; }
OPSERVE_INLINE DoubleVector most(const DoubleVector& a, const DoubleVector& b) { return a > b ? a : b; }
OPSERVE_INLINE LongVector choose(const LongVector& condition, int64_t yes, const LongVector& no) {
    return condition ? LongVector{} + yes : no;
}

OPSERVE_INLINE void plan(const Adjugate& back, const Shape& shape, int64_t first_row, int64_t first_column,
                         int64_t out_w, int64_t h, int64_t w, Plans& plans) {
    constexpr double half = kRun / 2;
    const double dx = back.m[0], dy = back.m[3], dw = back.m[6], end = static_cast<double>(out_w);
    const double right = static_cast<double>(w) - 1.0, bottom = static_cast<double>(h) - 1.0;
    for (int64_t i = 0; i < kPlans; i += kDoubles) {
        DoubleVector middle, line;
        load(shape.across_double + i, middle);
        load(shape.down_double + i, line);
        middle += static_cast<double>(first_column) + half;
        line += static_cast<double>(first_row);
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
        // The source of a run is a piece of a straight line: what is true at both ends is true between them.
        const LongVector inside = (left_most >= kMargin) & (right_most <= right - kMargin) &
                                  (top_most >= kMargin) & (bottom_most <= bottom - kMargin);
        const LongVector outside = (right_most < -1.0 - kMargin) | (left_most > right + 1.0 + kMargin) |
                                   (bottom_most < -1.0 - kMargin) | (top_most > bottom + 1.0 + kMargin);
        // Comparisons with NaN are false: a middle at infinity is left to the exact path.
        const DoubleVector reach = flattest * (kReach / half);
        const LongVector near = (flattest >= kFlattest) & (x_steep <= reach) & (y_steep <= reach);
        // A thousandth less than what fits, to allow for roundings.
        const DoubleVector square = flattest * flattest * 0.999;
        const LongVector along = (y_steep < square * (1.0 / (kFloats - 1))) &
                                 (x_steep < square * ((2.0 * kFloats - 2.0) / (kFloats - 1)));
        const LongVector room = inside & (right_most < right - 2.0 * kFloats) & (bottom_most < bottom - 3.0);
        const LongVector mode = choose(outside, kOutside, choose(inside, kInside, LongVector{} + kMixed));
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
        __builtin_memcpy(plans.along + i, &along, sizeof(along));
        __builtin_memcpy(plans.room + i, &room, sizeof(room));
    }
}

// Where a vector of pixels comes from: the upper left neighbours, as distances from the plan's pixel, and the
// weights of the neighbours to the right and below.
struct Spots {
    alignas(OPSERVE_VECTOR_BYTES) int32_t column[kFloats], row[kFloats];
    float right[kFloats], below[kFloats];
};

OPSERVE_INLINE void load_indices(const int32_t* from, IntVector& to) {
    __builtin_memcpy(&to, from, sizeof(to));
}

OPSERVE_INLINE void load_spots(const Spots& spots, IntVector& column, IntVector& row, FloatVector& right,
                               FloatVector& below) {
    load_indices(spots.column, column);
    load_indices(spots.row, row);
    load(spots.right, right);
    load(spots.below, below);
}

OPSERVE_INLINE FloatVector weigh(const FloatVector& right, const FloatVector& below, const FloatVector& p00,
                                 const FloatVector& p01, const FloatVector& p10, const FloatVector& p11) {
    const FloatVector left = 1.0F - right, above = 1.0F - below;
    return above * (left * p00 + right * p01) + below * (left * p10 + right * p11);
}

// A vector of pixels of some channels: of a single one if kOne. `from` is the plan's pixel, which may be
// outside the image.
struct Target {
    const float* from;
    int64_t stride;     // from row to row
    int64_t from_step;  // from channel to channel
    float* to;
    int64_t to_step;
    int64_t channels;
    int64_t count;  // of pixels
    bool past_caches;
};

// Stores past the caches if the result is too large for them.
OPSERVE_INLINE void store_row(const FloatVector& values, const Target& target, int64_t channel) {
    float* out = target.to + channel * target.to_step;
    if (target.count < kFloats) {
        store_some<float>(values, target.count, out);
    } else if (kCanStream && target.past_caches) {
        stream(values, out);
    } else {
        store<float>(values, out);
    }
}

template <bool kOne>
OPSERVE_INLINE void fetch_inside(const Spots& spots, const Target& target) {
    IntVector column, row;
    FloatVector right, below;
    load_spots(spots, column, row, right, below);
    const IntVector at = row * static_cast<int32_t>(target.stride) + column;
    for (int64_t i = 0; i < (kOne ? 1 : target.channels); ++i) {
        const float* from = target.from + i * target.from_step;
        FloatVector p00, p01, p10, p11;
        gather_pairs(from, at, p00, p01);
        gather_pairs(from + target.stride, at, p10, p11);
        store_row(weigh(right, below, p00, p01, p10, p11), target, i);
    }
}

// The image relative to the plan's pixel: the last column and row are those of a neighbour.
struct Bounds {
    int64_t first_column, last_column, first_row, last_row;
};

OPSERVE_INLINE bool all_inside(const Spots& spots, const Bounds& bounds) {
    const IntVector none{};
    IntVector column, row;
    load_indices(spots.column, column);
    load_indices(spots.row, row);
    return all((column >= none + static_cast<int32_t>(bounds.first_column)) &
               (column < none + static_cast<int32_t>(bounds.last_column)) &
               (row >= none + static_cast<int32_t>(bounds.first_row)) &
               (row < none + static_cast<int32_t>(bounds.last_row)));
}

// Neighbours outside the image are 0, one by one. What is fetched in their place is inside: the image is at
// least two columns wide.
template <bool kOne>
OPSERVE_INLINE void fetch_mixed(const Spots& spots, const Bounds& bounds, const Target& target) {
    const FloatVector zero{};
    const IntVector none{};
    const IntVector first_column = none + static_cast<int32_t>(bounds.first_column),
                    last_column = none + static_cast<int32_t>(bounds.last_column - 1),
                    first_row = none + static_cast<int32_t>(bounds.first_row),
                    last_row = none + static_cast<int32_t>(bounds.last_row);
    IntVector column, row;
    FloatVector right, below;
    load_spots(spots, column, row, right, below);
    IntVector pair = column > first_column ? column : first_column;
    pair = pair < last_column ? pair : last_column;
    IntVector upper = row > first_row ? row : first_row;
    upper = upper < last_row ? upper : last_row;
    IntVector lower = row + 1 > first_row ? row + 1 : first_row;
    lower = lower < last_row ? lower : last_row;
    const IntVector shift = column - pair, has_above = row == upper, has_below = row + 1 == lower;
    const IntVector upper_at = upper * static_cast<int32_t>(target.stride) + pair,
                    lower_at = lower * static_cast<int32_t>(target.stride) + pair;
    for (int64_t i = 0; i < (kOne ? 1 : target.channels); ++i) {
        const float* from = target.from + i * target.from_step;
        FloatVector a, b, c, d;
        gather_pairs(from, upper_at, a, b);
        gather_pairs(from, lower_at, c, d);
        const FloatVector p00 = shift == 0 ? a : shift == 1 ? b : zero;
        const FloatVector p01 = shift == 0 ? b : shift == -1 ? a : zero;
        const FloatVector p10 = shift == 0 ? c : shift == 1 ? d : zero;
        const FloatVector p11 = shift == 0 ? d : shift == -1 ? c : zero;
        store_row(weigh(right, below, has_above ? p00 : zero, has_above ? p01 : zero, has_below ? p10 : zero,
                        has_below ? p11 : zero),
                  target, i);
    }
}

// If the source runs nearly along the rows of the image, a vector of pixels is within two vectors of columns
// and three rows: those are loaded whole, and the pixels picked from registers.
#if OPSERVE_VECTOR_BYTES == 64
constexpr bool kHasAlong = true;

template <bool kOne>
OPSERVE_INLINE void fetch_along(const Spots& spots, int64_t first_column, int64_t first_row,
                                const Target& target) {
    IntVector column, row;
    FloatVector right, below;
    load_spots(spots, column, row, right, below);
    const __m512i pick = (__m512i)(column - static_cast<int32_t>(first_column));
    const __m512i next = _mm512_add_epi32(pick, _mm512_set1_epi32(1));
    const __mmask16 lower =
        _mm512_cmpneq_epi32_mask((__m512i)row, _mm512_set1_epi32(static_cast<int32_t>(first_row)));
    const int64_t first = first_row * target.stride + first_column;
    for (int64_t i = 0; i < (kOne ? 1 : target.channels); ++i) {
        const float* p = target.from + i * target.from_step + first;
        const float *q = p + target.stride, *r = q + target.stride;
        const __m512 p_low = _mm512_loadu_ps(p), p_high = _mm512_loadu_ps(p + kFloats);
        const __m512 q_low = _mm512_loadu_ps(q), q_high = _mm512_loadu_ps(q + kFloats);
        const __m512 r_low = _mm512_loadu_ps(r), r_high = _mm512_loadu_ps(r + kFloats);
        const __m512 p0 = _mm512_permutex2var_ps(p_low, pick, p_high),
                     p1 = _mm512_permutex2var_ps(p_low, next, p_high);
        const __m512 q0 = _mm512_permutex2var_ps(q_low, pick, q_high),
                     q1 = _mm512_permutex2var_ps(q_low, next, q_high);
        const __m512 r0 = _mm512_permutex2var_ps(r_low, pick, r_high),
                     r1 = _mm512_permutex2var_ps(r_low, next, r_high);
        store_row(weigh(right, below, (FloatVector)_mm512_mask_blend_ps(lower, p0, q0),
                        (FloatVector)_mm512_mask_blend_ps(lower, p1, q1),
                        (FloatVector)_mm512_mask_blend_ps(lower, q0, r0),
                        (FloatVector)_mm512_mask_blend_ps(lower, q1, r1)),
                  target, i);
    }
}
#else
constexpr bool kHasAlong = false;

template <bool>
OPSERVE_INLINE void fetch_along(const Spots&, int64_t, int64_t, const Target&) {}
#endif

// Samples the pixels of one run; in the last vector, those beyond `count` repeat the last pixel.
OPSERVE_INLINE void locate_run(const Plans& plans, int64_t which, int64_t count, Spots* spots) {
    constexpr float half = kRun / 2;
    const auto narrow = [which](const double* from) { return static_cast<float>(from[which]); };
    const float x = narrow(plans.column_fraction), y = narrow(plans.row_fraction);
    const float x_slope = narrow(plans.column_slope), y_slope = narrow(plans.row_slope);
    const float bend = narrow(plans.bend);
    const FloatVector last = FloatVector{} + (static_cast<float>(count) - 1.0F - half);
    FloatVector t;
    for (int64_t i = 0; i < kFloats; ++i) t[i] = static_cast<float>(i) - half;
    for (; count > 0; count -= kFloats, ++spots) {
        const FloatVector at = t < last ? t : last;
        const FloatVector step = at * reciprocal(1.0F + bend * at);
        IntVector column, row;
        FloatVector right, below;
        split(x_slope * step + x, column, right);
        split(y_slope * step + y, row, below);
        __builtin_memcpy(spots->column, &column, sizeof(column));
        __builtin_memcpy(spots->row, &row, sizeof(row));
        store<float>(right, spots->right);
        store<float>(below, spots->below);
        t += static_cast<float>(kFloats);
    }
}

template <bool kOne>
OPSERVE_INLINE void sample_run(const Plans& plans, int64_t which, const Spots* spots, const Bounds& bounds,
                               int64_t count, Target target) {
    const bool mixed = plans.mode[which] == kMixed, along = kHasAlong && plans.along[which] != 0,
               room = plans.room[which] != 0;
    // The source of a run is monotone: its lowest column is at one end of a vector, and so is its lowest row.
    const int64_t left_end = plans.column_slope[which] < 0.0 ? kFloats - 1 : 0;
    const int64_t upper_end = plans.row_slope[which] < 0.0 ? kFloats - 1 : 0;
    for (; count > 0; count -= kFloats, ++spots, target.to += kFloats) {
        target.count = count;
        if (mixed && !all_inside(*spots, bounds)) {
            fetch_mixed<kOne>(*spots, bounds, target);
            continue;
        }
        const int64_t column = spots->column[left_end], row = spots->row[upper_end];
        // Whole vectors must not pass the ends of the rows they are loaded from.
        if (along &&
            (room || (row + 2 <= bounds.last_row && column + 2 * kFloats <= bounds.last_column + 1))) {
            fetch_along<kOne>(*spots, column, row, target);
        } else {
            fetch_inside<kOne>(*spots, target);
        }
    }
}

OPSERVE_INLINE void clear_run(int64_t count, Target target) {
    for (; count > 0; count -= kFloats, target.to += kFloats) {
        target.count = count;
        for (int64_t i = 0; i < target.channels; ++i) store_row(FloatVector{}, target, i);
    }
}

OPSERVE_INLINE void warp_block(const WarpParams<float>& p, const Adjugate& back, int64_t image,
                               const Shape& shape, int64_t first_row, int64_t first_column, int64_t rows,
                               Run<float>& run) {
    // Offsets from the plan's pixel are held in 32 bits, and neighbours fetched in pairs.
    const bool plannable = p.w >= 2 && p.h >= 1 && p.stride_h >= 0 && p.stride_h < (int64_t{1} << 22);
    const int64_t out_plane = p.out_h * p.out_w, bytes = p.n * p.c * out_plane * int64_t{sizeof(float)};
    const bool large =
        kCanStream && bytes >= kStreamFrom && bytes < kStreamUpTo && (p.c == 1 || out_plane % kFloats == 0);
    Plans plans;
    if (plannable) plan(back, shape, first_row, first_column, p.out_w, p.h, p.w, plans);
    // All runs first: the processor then has the next pixels' places without waiting for the previous pixels.
    Spots spots[kPlans][kRun / kFloats];
    for (int64_t i = 0; plannable && i < rows * shape.wide; ++i) {
        if (plans.mode[i] == kExact || plans.mode[i] == kOutside) continue;
        locate_run(plans, i, min_of(kRun, p.out_w - first_column - shape.across[i]), spots[i]);
    }
    for (int64_t i = 0; i < rows * shape.wide; ++i) {
        const int64_t row = first_row + shape.down[i], column = first_column + shape.across[i];
        const int64_t count = min_of(kRun, p.out_w - column);
        const int64_t mode = plannable ? plans.mode[i] : kExact;
        if (mode == kExact) {
            warp_run_exactly(p, back, image, row, column, count, run);
            continue;
        }
        Target target{};
        target.stride = p.stride_h;
        target.from_step = p.stride_c;
        target.to_step = out_plane;
        Bounds bounds{};
        int64_t from = image * p.stride_n;
        if (mode != kOutside) {
            const int64_t up = static_cast<int64_t>(plans.row[i]),
                          left = static_cast<int64_t>(plans.column[i]);
            from += up * p.stride_h + left;
            // No run reaches this far from its plan's pixel.
            constexpr int64_t far = 4096;
            bounds = {max_of(-far, -left), min_of(far, p.w - 1 - left), max_of(-far, -up),
                      min_of(far, p.h - 1 - up)};
        }
        for (int64_t channel = 0; channel < p.c; channel += kChannels) {
            target.from = p.image + channel * p.stride_c + from;
            target.to = p.out + (image * p.c + channel) * out_plane + row * p.out_w + column;
            target.channels = min_of(kChannels, p.c - channel);
            target.past_caches = large && reinterpret_cast<uintptr_t>(target.to) % OPSERVE_VECTOR_BYTES == 0;
            if (mode == kOutside) {
                clear_run(count, target);
            } else if (target.channels == 1) {
                sample_run<true>(plans, i, spots[i], bounds, count, target);
            } else {
                sample_run<false>(plans, i, spots[i], bounds, count, target);
            }
        }
    }
}

// Blocks are runs side by side or, if the source of a row is steep, one below the other, so that what one row
// has brought into the cache serves the next ones.
OPSERVE_INLINE void warp_band(const WarpParams<float>& p, const Adjugate& back, int64_t image, int64_t from,
                              int64_t to) {
    Run<float> run;
    Shape shape;
    // In the middle of the band; the shape of the blocks does not change a result.
    const double x = 0.5 * static_cast<double>(p.out_w), y = 0.5 * static_cast<double>(from + to);
    const double divisor = back.m[6] * x + back.m[7] * y + back.m[8];
    const double source = (back.m[3] * x + back.m[4] * y + back.m[5]) / divisor;
    const double slope = (back.m[3] - source * back.m[6]) / divisor;
    const int64_t widest = slope > -kSteep && slope < kSteep ? kPlans : 1;
    for (int64_t column = 0; column < p.out_w; column += widest * kRun) {
        make_shape(min_of(widest, (p.out_w - column + kRun - 1) / kRun), shape);
        const int64_t rows = kPlans / shape.wide;
        for (int64_t row = from; row < to; row += rows) {
            warp_block(p, back, image, shape, row, column, min_of(rows, to - row), run);
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
            if (image != turned) invert_homography(p, image, back);
            turned = image;
            warp_band(p, back, image, row, row + rows);
            line += rows;
        }
        finish_streams();
    });
}
