// The rows of x that each row of a sparse matrix selects, summed in registers: on its own, or a block of rows
// at a time in front of a dense product, so that the sums never leave the cache.

// Both checks accumulate sign bits, which vectorizes; comparisons do not. A difference of values without a
// sign bit cannot overflow.
template <class Index>
bool rowptr_decreases(const Index* rowptr, int64_t rows) {
    using Unsigned = typename UnsignedOf<Index>::type;
    Unsigned signs = 0;
    for (int64_t i = 0; i < rows; ++i) {
        const Unsigned from = static_cast<Unsigned>(rowptr[i]), to = static_cast<Unsigned>(rowptr[i + 1]);
        signs |= (to - from) | to;
    }
    return static_cast<Index>(signs) < 0;
}

// Whether any of these columns is outside [0, limit).
template <class Index>
bool col_outside(const Index* col, int64_t count, int64_t limit) {
    using Unsigned = typename UnsignedOf<Index>::type;
    // int32 cannot index more rows than it can count.
    constexpr int64_t largest = static_cast<int64_t>(static_cast<Unsigned>(-1) >> 1);
    const Unsigned last = static_cast<Unsigned>(min_of(limit - 1, largest));
    Unsigned signs = 0;
    for (int64_t e = 0; e < count; ++e) {
        const Unsigned column = static_cast<Unsigned>(col[e]);
        signs |= (last - column) | column;
    }
    return static_cast<Index>(signs) < 0;
}

// One row times a band of `Vectors` vectors of columns. Only the last vector may be partial.
template <class T, class Index, int64_t Vectors, bool Whole, bool Valued>
OPSERVE_INLINE void aggregate_band(const SpmmParams<T, Index>& p, int64_t e, int64_t end, int64_t column,
                                   Mask<T> read, const T* bias, Mask<T> write, T* to) {
    constexpr int64_t lanes = kLanes<T>;
    constexpr int64_t last = Vectors - 1;
    Vector<T> sum[Vectors] = {};
    if (bias != nullptr) {
#pragma GCC unroll 16
        for (int64_t v = 0; v < Vectors; ++v) {
            if (Whole || v < last) {
                load(bias + v * lanes, sum[v]);
            } else {
                load_masked(bias + v * lanes, write, sum[v]);
            }
        }
    }
    const T* x = p.x + column;
    const T* value = p.value;
    const Index* col = p.col;
    const int64_t x_stride = p.x_stride;
    // A row is done when its entries are counted, without waiting for a sum: rows overlap, and alternating
    // sums would gain nothing.
    for (; e < end; ++e) {
        const T* from = x + static_cast<int64_t>(col[e]) * x_stride;
#pragma GCC unroll 16
        for (int64_t v = 0; v < Vectors; ++v) {
            Vector<T> term;
            if (Whole || v < last) {
                load(from + v * lanes, term);
            } else {
                load_masked(from + v * lanes, read, term);
            }
            if constexpr (Valued) {
                sum[v] += value[e] * term;
            } else {
                sum[v] += term;
            }
        }
    }
#pragma GCC unroll 16
    for (int64_t v = 0; v < Vectors; ++v) {
        if (Whole || v < last) {
            store<T>(sum[v], to + v * lanes);
        } else {
            store_masked(sum[v], write, to + v * lanes);
        }
    }
}

// The same for rows of x that are one short vector each, one after the other: a cache line then holds whole
// rows only, and no load reaches into a second one.
template <class T, class Index, int64_t Lanes, bool Valued>
void aggregate_short_rows(const SpmmParams<T, Index>& p, int64_t begin, int64_t end, int64_t width,
                          const T* bias, T* out, int64_t out_stride, int64_t writable) {
    typedef T Short __attribute__((vector_size(Lanes * sizeof(T))));
    Short start{};
    if (bias != nullptr) __builtin_memcpy(&start, bias, static_cast<size_t>(width) * sizeof(T));
    const T* x = p.x;
    const T* value = p.value;
    const Index* col = p.col;
    int64_t e = static_cast<int64_t>(p.rowptr[begin]);
    // The next row overwrites what a row writes beyond its end, so only the last ones must not write more
    // than their elements.
    const int64_t whole = writable >= Lanes ? end : end - (Lanes - writable + out_stride - 1) / out_stride;
    for (int64_t row = begin; row < end; ++row, out += out_stride) {
        const int64_t stop = static_cast<int64_t>(p.rowptr[row + 1]);
        Short sum = start;
        for (; e < stop; ++e) {
            Short term;
            __builtin_memcpy(&term, x + static_cast<int64_t>(col[e]) * Lanes, sizeof(term));
            if constexpr (Valued) {
                sum += value[e] * term;
            } else {
                sum += term;
            }
        }
        if (row < whole) {
            __builtin_memcpy(out, &sum, sizeof(sum));
        } else {
            __builtin_memcpy(out, &sum, static_cast<size_t>(width) * sizeof(T));
        }
    }
}

// Rows [begin, end), columns [column, column + width), to `out`, whose rows may be written up to `writable`
// columns.
template <class T, class Index, bool Valued>
void aggregate_rows(const SpmmParams<T, Index>& p, int64_t begin, int64_t end, int64_t column, int64_t width,
                    const T* bias, T* out, int64_t out_stride, int64_t writable) {
    constexpr int64_t lanes = kLanes<T>;
    constexpr int64_t widest = OPSERVE_VECTOR_BYTES == 64 ? 16 : 8;
#define OPSERVE_SHORT(lanes)                                                                             \
    if constexpr ((lanes) * sizeof(T) >= 16) {                                                           \
        if (p.x_stride == (lanes) && p.x_columns == (lanes) && column == 0 &&                            \
            (writable >= (lanes) || writable == out_stride)) {                                           \
            aggregate_short_rows<T, Index, (lanes), Valued>(p, begin, end, width, bias, out, out_stride, \
                                                            writable);                                   \
            return;                                                                                      \
        }                                                                                                \
    }
    OPSERVE_SHORT(lanes / 2)
    OPSERVE_SHORT(lanes / 4)
#undef OPSERVE_SHORT
    const int64_t partial = width % lanes;
    // A whole vector is read and written where there is room for one.
    const Mask<T> read(!kMasks && p.x_columns - column - (width - partial) >= lanes ? lanes : partial);
    const Mask<T> write(bias == nullptr && writable - (width - partial) >= lanes ? lanes : partial);
    for (int64_t row = begin; row < end; ++row, out += out_stride) {
        const int64_t e = static_cast<int64_t>(p.rowptr[row]), stop = static_cast<int64_t>(p.rowptr[row + 1]);
        int64_t done = 0;
#define OPSERVE_BAND(vectors)                                                                             \
    for (; done + (vectors) * lanes <= width; done += (vectors) * lanes) {                                \
        aggregate_band<T, Index, (vectors), true, Valued>(                                                \
            p, e, stop, column + done, read, bias == nullptr ? nullptr : bias + done, write, out + done); \
    }
        if constexpr (widest == 16) OPSERVE_BAND(16)
        OPSERVE_BAND(8)
        OPSERVE_BAND(4)
        OPSERVE_BAND(2)
        OPSERVE_BAND(1)
#undef OPSERVE_BAND
        if (partial != 0) {
            aggregate_band<T, Index, 1, false, Valued>(
                p, e, stop, column + done, read, bias == nullptr ? nullptr : bias + done, write, out + done);
        }
    }
}

template <class T, class Index>
OPSERVE_INLINE void aggregate(const SpmmParams<T, Index>& p, int64_t begin, int64_t end, int64_t column,
                              int64_t width, const T* bias, T* out, int64_t out_stride, int64_t writable) {
    if (p.value != nullptr) {
        aggregate_rows<T, Index, true>(p, begin, end, column, width, bias, out, out_stride, writable);
    } else {
        aggregate_rows<T, Index, false>(p, begin, end, column, width, bias, out, out_stride, writable);
    }
}

// Whether the entries of these rows may be followed. They are checked here, just before they are read again,
// so that they come from memory once.
template <class T, class Index>
OPSERVE_INLINE bool entries_valid(const SpmmParams<T, Index>& p, int64_t begin, int64_t end) {
    if (!p.check) return true;
    const int64_t first = static_cast<int64_t>(p.rowptr[begin]);
    return !col_outside(p.col + first, static_cast<int64_t>(p.rowptr[end]) - first, p.x_rows);
}

// Covers the rows in ranges of similar work, split between groups of rows. Each row costs `per_row`, each
// entry `per_entry`.
template <class Index, class Function>
void for_rows_evenly(const Index* rowptr, int64_t rows, int64_t group, double per_row, double per_entry,
                     const ParallelFor& parallel_for, const Function& function) {
    const double total = per_row * static_cast<double>(rows) +
                         per_entry * static_cast<double>(static_cast<int64_t>(rowptr[rows]));
    constexpr double worthwhile = 2e5;
    const int64_t most = static_cast<int64_t>(total / worthwhile);
    const int64_t pieces = parallel_for.num_threads() == 1
                               ? 1
                               : min_of(most, 4 * static_cast<int64_t>(parallel_for.num_threads()));
    if (pieces <= 1) {
        function(int64_t{0}, rows);
        return;
    }
    const auto boundary = [=](int64_t piece) {
        if (piece == pieces) return rows;
        const double wanted = total * static_cast<double>(piece) / static_cast<double>(pieces);
        int64_t low = 0, high = (rows + group - 1) / group;
        while (low < high) {
            const int64_t middle = (low + high) / 2, row = min_of(middle * group, rows);
            const double before = per_row * static_cast<double>(row) +
                                  per_entry * static_cast<double>(static_cast<int64_t>(rowptr[row]));
            if (before < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return min_of(low * group, rows);
    };
    parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
        const int64_t first = boundary(begin), last = boundary(end);
        if (first < last) function(first, last);
    });
}

template <class T, class Index>
bool spmm(const SpmmParams<T, Index>& p, const ParallelFor& parallel_for) {
    if (p.rows == 0) return true;
    bool valid = true;
    const double width = static_cast<double>(p.width);
    for_rows_evenly(p.rowptr, p.rows, 1, 16.0 + width, 4.0 + width, parallel_for,
                    [&](int64_t begin, int64_t end) {
                        constexpr int64_t block = 64;
                        for (int64_t row = begin; row < end; row += block) {
                            const int64_t stop = min_of(row + block, end);
                            if (!entries_valid(p, row, stop)) {
                                __atomic_store_n(&valid, false, __ATOMIC_RELAXED);
                                return;
                            }
                            aggregate(p, row, stop, 0, p.width, p.bias, p.out + row * p.out_stride,
                                      p.out_stride, p.out_columns);
                        }
                    });
    return valid;
}

// C = (A·x)·B + bias with A·x = the sums of `s`, in which `out` and `bias` are not used; `p.a` is not used.
template <class T, class Index>
bool spmm_gemm(const SpmmParams<T, Index>& s, const GemmParams<T>& p, const ParallelFor& parallel_for) {
    if (p.m == 0) return true;
    bool valid = true;
    const bool packed = gemm_packs(p);
    if (packed) pack_panels(p, parallel_for);
    const double f = static_cast<double>(p.k), k = static_cast<double>(p.n);
    // Gathering an element costs as much as multiplying a few.
    const double per_entry = 4.0 + f, per_row = 16.0 + f * k / 8.0;
    for_rows_evenly(
        s.rowptr, s.rows, kGroupRows, per_row, per_entry, parallel_for, [&](int64_t begin, int64_t end) {
            alignas(64) T buffer[kGroupRows * kBufferStride<T>];
            for (int64_t row = begin; row < end; row += kGroupRows) {
                const int64_t rows = min_of(kGroupRows, end - row);
                if (!entries_valid(s, row, row + rows)) {
                    __atomic_store_n(&valid, false, __ATOMIC_RELAXED);
                    return;
                }
                int64_t depth_begin = 0;
                do {
                    const int64_t depth = min_of(kDepth<T>, p.k - depth_begin);
                    aggregate<T, Index>(s, row, row + rows, depth_begin, depth, nullptr, buffer,
                                        kBufferStride<T>, kBufferStride<T>);
                    clear_rows(buffer, rows, depth);
                    gemm_block<T, Layout::kBuffer>(p, packed, buffer, row, rows, depth_begin, depth);
                    depth_begin += depth;
                } while (depth_begin < p.k);
            }
        });
    return valid;
}

template <class T, class Index>
void sddmm(const SddmmParams<T, Index>& p, const ParallelFor& parallel_for) {
    if (p.rows == 0) return;
    const double width = static_cast<double>(p.width);
    for_rows_evenly(p.rowptr, p.rows, 1, 16.0, 16.0 + width, parallel_for, [&](int64_t begin, int64_t end) {
        constexpr int64_t lanes = kLanes<T>;
        const Mask<T> mask(p.width % lanes);
        for (int64_t row = begin; row < end; ++row) {
            const T* left = p.left + row * p.left_stride;
            const int64_t last = static_cast<int64_t>(p.rowptr[row + 1]);
            for (int64_t e = static_cast<int64_t>(p.rowptr[row]); e < last; ++e) {
                const T* right = p.right + static_cast<int64_t>(p.col[e]) * p.right_stride;
                Vector<T> sum{}, a, b;
                int64_t i = 0;
                for (; i + lanes <= p.width; i += lanes) {
                    load(left + i, a);
                    load(right + i, b);
                    sum += a * b;
                }
                if (i < p.width) {
                    load_masked(left + i, mask, a);
                    load_masked(right + i, mask, b);
                    sum += a * b;
                }
                T parts[lanes];
                store<T>(sum, parts);
                for (int64_t half = lanes / 2; half > 0; half /= 2) {
                    for (int64_t lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
                }
                p.out[e] = parts[0];
            }
        }
    });
}
