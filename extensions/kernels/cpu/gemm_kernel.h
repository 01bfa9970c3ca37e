// A dense product, and the piece of it that the sparse convolution shares: a block of rows of A, laid out in
// a buffer whose rows are a constant distance apart, times B. The constant lets one register address every
// row of a tile, as displacements; with the stride of the caller's A each row would need a register of its
// own, and strides of a power of two would put all rows in the same few lines of the cache. The order of the
// sums depends on the shape alone, never on the threads.

// The tile of C that is held in registers: 28 accumulators of the 32 registers of AVX-512, 12 of 16
// elsewhere. One vector wide for a narrow B, else two, so that each element of A that is broadcast is used
// twice.
constexpr int64_t kAccumulators = OPSERVE_VECTOR_BYTES == 64 ? 28 : 12;
template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;
// Of A and B that are multiplied at a time. Sums are formed over this many terms, and then summed: that keeps
// their rounding errors smaller than one long sum would.
template <class T>
constexpr int64_t kDepth = 1024 / static_cast<int64_t>(sizeof(T));
// Rows of the buffer: a line more than the depth, lest rows fall on each other in the cache.
template <class T>
constexpr int64_t kBlockStride = kDepth<T> + 64 / static_cast<int64_t>(sizeof(T));
constexpr int64_t kGroupRows = kAccumulators;
constexpr int64_t kBlockRows = 2 * kGroupRows;

// Lines that the next block will read, asked for while this one is computed.
struct Prefetch {
    static constexpr int64_t kRows = 1024;

    const char* row[kRows];
    int64_t rows = 0, lines = 0;  // of each row
    int64_t next = 0, line = 0;
    int64_t per_step = 0;

    OPSERVE_INLINE void step() {
        if (next == rows) return;
        for (int64_t i = 0; i < per_step; ++i) {
            __builtin_prefetch(row[next] + line * 64, 0, 2);
            if (++line == lines) {
                line = 0;
                if (++next == rows) return;
            }
        }
    }
    // `steps` are what the current block will take.
    void spread(int64_t steps) { per_step = rows * lines / max_of(1, steps) + 1; }
    void clear() { rows = next = line = 0; }
};
constexpr int64_t kStepDepth = 8;

template <class T>
struct Tile {
    const T* a;
    int64_t a_stride;  // from one column of A to the next; used only where A is transposed
    const T* b;
    int64_t b_stride;
    int64_t depth;
    int64_t rows;     // that exist
    int64_t columns;  // that exist in B and are written to C
    const T* bias;    // or null
    int64_t biases;   // columns of it that exist
    bool accumulate;  // onto what C holds
    T* c;
    int64_t c_stride;
};

// One tile of C. With a transposed A all `Rows` rows must exist; else those that do not are computed from
// whatever the buffer holds, and dropped.
template <class T, int64_t Rows, int64_t Vectors, bool Transposed>
__attribute__((noinline)) void gemm_tile(const Tile<T>& t, Prefetch& prefetch) {
    constexpr int64_t lanes = kLanes<T>;
    constexpr int64_t last = Vectors - 1;
    const Mask<T> mask(t.columns - last * lanes);
    Vector<T> sum[Rows][Vectors];
#pragma GCC unroll 2
    for (int64_t v = 0; v < Vectors; ++v) {
        Vector<T> start{};
        const int64_t biases = t.biases - v * lanes;
        if (t.bias != nullptr && biases > 0) load_some(t.bias + v * lanes, min_of(biases, lanes), start);
#pragma GCC unroll 28
        for (int64_t r = 0; r < Rows; ++r) sum[r][v] = start;
    }
    const T* a = t.a;
    const T* b = t.b;
    const int64_t a_stride = Transposed ? t.a_stride : 1;
    const int64_t b_stride = t.b_stride;
    for (int64_t d = 0; d < t.depth;) {
        const int64_t stop = min_of(d + kStepDepth, t.depth);
        if constexpr (!Transposed) prefetch.step();
        for (; d < stop; ++d, a += a_stride, b += b_stride) {
            Vector<T> vb[Vectors];
#pragma GCC unroll 2
            for (int64_t v = 0; v < last; ++v) load(b + v * lanes, vb[v]);
            // Elsewhere B is laid out in whole vectors.
            if constexpr (kMasks) {
                load_masked(b + last * lanes, mask, vb[last]);
            } else {
                load(b + last * lanes, vb[last]);
            }
            // The next tile reads what lies beside this one in A.
            if constexpr (Transposed) __builtin_prefetch(a + 2 * kAccumulators, 0, 2);
#pragma GCC unroll 28
            for (int64_t r = 0; r < Rows; ++r) {
                const T scale = Transposed ? a[r] : a[r * kBlockStride<T>];
#pragma GCC unroll 2
                for (int64_t v = 0; v < Vectors; ++v) sum[r][v] += scale * vb[v];
            }
        }
    }
#pragma GCC unroll 28
    for (int64_t r = 0; r < Rows; ++r) {
        if (!Transposed && r >= t.rows) break;
        T* to = t.c + r * t.c_stride;
#pragma GCC unroll 2
        for (int64_t v = 0; v < Vectors; ++v) {
            if (v < last) {
                if (t.accumulate) {
                    Vector<T> before;
                    load(to + v * lanes, before);
                    sum[r][v] += before;
                }
                store<T>(sum[r][v], to + v * lanes);
            } else {
                if (t.accumulate) {
                    Vector<T> before;
                    load_masked(to + v * lanes, mask, before);
                    sum[r][v] += before;
                }
                store_masked(sum[r][v], mask, to + v * lanes);
            }
        }
    }
}

// The heights a tile comes in. Rows of the buffer that do not exist may be computed in vain, so there the
// height that suffices is taken; of a transposed A no such row may be read, so the height that fits.
template <class T, int64_t Vectors, bool Transposed>
int64_t gemm_some_rows(const Tile<T>& t, Prefetch& prefetch) {
    constexpr int64_t most = kAccumulators / Vectors;
    constexpr int64_t slack = Transposed ? 0 : 1;
#define OPSERVE_HEIGHT(rows_of_tile, above)                                 \
    if constexpr ((rows_of_tile) <= most) {                                 \
        if (t.rows >= (Transposed ? (rows_of_tile) : (above) + slack)) {    \
            gemm_tile<T, (rows_of_tile), Vectors, Transposed>(t, prefetch); \
            return min_of(t.rows, (rows_of_tile));                          \
        }                                                                   \
    }
    if constexpr (most == 28) {
        OPSERVE_HEIGHT(28, 24)
        OPSERVE_HEIGHT(24, 20)
        OPSERVE_HEIGHT(20, 16)
        OPSERVE_HEIGHT(16, 12)
    }
    if constexpr (most == 14) OPSERVE_HEIGHT(14, 12)
    OPSERVE_HEIGHT(12, 10)
    OPSERVE_HEIGHT(10, 8)
    OPSERVE_HEIGHT(8, 6)
    OPSERVE_HEIGHT(6, 4)
    OPSERVE_HEIGHT(4, 2)
    OPSERVE_HEIGHT(2, 1)
    OPSERVE_HEIGHT(1, 0)
#undef OPSERVE_HEIGHT
    return 1;
}

template <class T>
int64_t gemm_packed_elements(int64_t k, int64_t n) {
    int64_t vectors = n / kLanes<T> + (n % kLanes<T> != 0), elements = 0;
    if (__builtin_mul_overflow(vectors * kLanes<T>, k, &elements)) return -1;
    return elements;
}

// Where B is read as it lies, and where it is packed first: in panels of two vectors of columns, the last of
// one where that suffices, each in the order of the tile's loop.
template <class T>
OPSERVE_INLINE bool gemm_packs(const GemmParams<T>& p) {
    if (p.b_transposed) return true;
    if (!kMasks && p.n % kLanes<T> != 0) return true;
    return p.n > kPanel<T> && p.m > 3 * kGroupRows;
}

template <class T>
void pack_panels(const GemmParams<T>& p, const ParallelFor& parallel_for) {
    constexpr int64_t panel = kPanel<T>, lanes = kLanes<T>;
    const int64_t panels = (p.n + panel - 1) / panel;
    const int64_t grain = max_of(1, 32768 / max_of(1, p.k * panel));
    parallel_for(panels, grain, [&p](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; ++j) {
            const int64_t columns = min_of(panel, p.n - j * panel);
            const int64_t width = columns <= lanes ? lanes : panel;
            T* to = p.packed_b + j * panel * p.k;
            if (p.b_transposed) {
                const T* from = p.b + j * panel * p.b_stride;
                // By a few lines at a time, so that they are still in the cache for their next element.
                for (int64_t first = 0; first < p.k; first += lanes) {
                    const int64_t stop = min_of(first + lanes, p.k);
                    for (int64_t column = 0; column < width; ++column) {
                        const T* line = from + column * p.b_stride;
                        for (int64_t d = first; d < stop; ++d)
                            to[d * width + column] = column < columns ? line[d] : T(0);
                    }
                }
                continue;
            }
            const T* from = p.b + j * panel;
            if (columns == panel) {
                for (int64_t row = 0; row < p.k; ++row, from += p.b_stride, to += panel) {
                    Vector<T> b0, b1;
                    load(from, b0);
                    load(from + lanes, b1);
                    store<T>(b0, to);
                    store<T>(b1, to + lanes);
                }
                continue;
            }
            const int64_t whole = columns / lanes * lanes;
            for (int64_t row = 0; row < p.k; ++row, from += p.b_stride, to += width) {
                Vector<T> b;
                if (whole > 0) {
                    load(from, b);
                    store<T>(b, to);
                }
                if (whole < width) {
                    load_some(from + whole, columns - whole, b);
                    store<T>(b, to + whole);
                }
            }
        }
    });
}

// How many steps of the tile's loop, and so chances to prefetch, a block takes.
template <class T>
int64_t gemm_block_steps(const GemmParams<T>& p, int64_t rows, int64_t depth) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t accumulators = rows * ((p.n + lanes - 1) / lanes);
    return (accumulators / kAccumulators + 1) * ((depth + kStepDepth - 1) / kStepDepth);
}

// C[row …] (+)= A[row …, depth_begin …]·B, A in the buffer, or with `Transposed` where `a` points. Bias is
// added once, with the first part of the depth.
template <class T, bool Transposed>
void gemm_block(const GemmParams<T>& p, bool packed, const T* a, int64_t row, int64_t rows,
                int64_t depth_begin, int64_t depth, Prefetch& prefetch) {
    constexpr int64_t panel = kPanel<T>, lanes = kLanes<T>;
    for (int64_t column = 0; column < p.n; column += panel) {
        const int64_t columns = min_of(panel, p.n - column);
        const int64_t vectors = columns <= lanes ? 1 : 2;
        Tile<T> t;
        t.a_stride = p.a_stride;
        t.depth = depth;
        if (packed) {
            t.b_stride = vectors * lanes;
            t.b = p.packed_b + column * p.k + depth_begin * t.b_stride;
        } else {
            t.b_stride = p.b_stride;
            t.b = p.b + depth_begin * p.b_stride + column;
        }
        t.columns = min_of(p.c_columns - column, vectors * lanes);
        if (kMasks && !packed) t.columns = columns;
        t.accumulate = depth_begin > 0;
        t.bias = p.bias == nullptr || t.accumulate ? nullptr : p.bias + column;
        t.biases = columns;
        t.c_stride = p.c_stride;
        for (int64_t done = 0; done < rows;) {
            t.a = Transposed ? a + done : a + done * kBlockStride<T>;
            t.c = p.c + (row + done) * p.c_stride + column;
            t.rows = rows - done;
            done += vectors == 1 ? gemm_some_rows<T, 1, Transposed>(t, prefetch)
                                 : gemm_some_rows<T, 2, Transposed>(t, prefetch);
        }
    }
}

template <class T>
OPSERVE_INLINE void copy_row(const T* from, int64_t count, T* to) {
    constexpr int64_t lanes = kLanes<T>;
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        Vector<T> v;
        load(from + i, v);
        store<T>(v, to + i);
    }
    if (i < count) {
        Vector<T> v;
        load_some(from + i, count - i, v);
        // The buffer has room for whole vectors.
        store<T>(v, to + i);
    }
}

// Rows of the buffer beyond those that exist are computed with: not with what may be subnormal, which is
// slow.
template <class T>
OPSERVE_INLINE void clear_rows(T* block, int64_t rows, int64_t depth) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t until = min_of(kBlockRows, rows + 4);
    for (int64_t r = rows; r < until; ++r) {
        for (int64_t i = 0; i < depth; i += lanes) store<T>(Vector<T>{}, block + r * kBlockStride<T> + i);
    }
}

template <class T>
void gemm_copying(const GemmParams<T>& p, bool packed, int64_t row_begin, int64_t row_end) {
    alignas(64) T block[kBlockRows * kBlockStride<T>];
    Prefetch prefetch;
    const int64_t line = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t row = row_begin; row < row_end; row += kBlockRows) {
        const int64_t rows = min_of(kBlockRows, row_end - row);
        // At least once, so that an empty sum still writes the bias.
        int64_t depth_begin = 0;
        do {
            const int64_t depth = min_of(kDepth<T>, p.k - depth_begin);
            for (int64_t r = 0; r < rows; ++r) {
                copy_row(p.a + (row + r) * p.a_stride + depth_begin, depth, block + r * kBlockStride<T>);
            }
            if (rows < kBlockRows) clear_rows(block, rows, depth);
            const int64_t next = depth_begin + depth;
            prefetch.clear();
            if (next < p.k) {
                prefetch.rows = rows;
                prefetch.lines = (min_of(kDepth<T>, p.k - next) + line - 1) / line;
                for (int64_t r = 0; r < rows; ++r) {
                    prefetch.row[r] = reinterpret_cast<const char*>(p.a + (row + r) * p.a_stride + next);
                }
            } else if (row + rows < row_end) {
                prefetch.rows = min_of(kBlockRows, row_end - row - rows);
                prefetch.lines = (min_of(kDepth<T>, p.k) + line - 1) / line;
                for (int64_t r = 0; r < prefetch.rows; ++r) {
                    prefetch.row[r] = reinterpret_cast<const char*>(p.a + (row + rows + r) * p.a_stride);
                }
            }
            prefetch.spread(gemm_block_steps(p, rows, depth));
            gemm_block<T, false>(p, packed, block, row, rows, depth_begin, depth, prefetch);
            depth_begin = next;
        } while (depth_begin < p.k);
    }
}

// As much of a transposed A as the second-level cache holds is multiplied by all of B that belongs to it, so
// that it comes from memory once and in order.
template <class T>
void gemm_transposed(const GemmParams<T>& p, bool packed, int64_t row_begin, int64_t row_end) {
    Prefetch none;
    int64_t depth_begin = 0;
    do {
        const int64_t depth = min_of(kDepth<T> / 2, p.k - depth_begin);
        gemm_block<T, true>(p, packed, p.a + depth_begin * p.a_stride + row_begin, row_begin,
                            row_end - row_begin, depth_begin, depth, none);
        depth_begin += depth;
    } while (depth_begin < p.k);
}

template <class T>
void gemm(const GemmParams<T>& p, const ParallelFor& parallel_for) {
    if (p.m == 0 || p.n == 0) return;
    const bool packed = gemm_packs(p);
    if (packed) pack_panels(p, parallel_for);
    const int64_t groups = (p.m + kGroupRows - 1) / kGroupRows;
    const double flops =
        2.0 * static_cast<double>(kGroupRows) * static_cast<double>(p.n) * static_cast<double>(p.k);
    const int64_t grain = flops > 1e6 ? 1 : static_cast<int64_t>(1e6 / (flops + 1.0)) + 1;
    parallel_for(groups, grain, [&p, packed](int64_t begin, int64_t end) {
        const int64_t row_begin = begin * kGroupRows, row_end = min_of(end * kGroupRows, p.m);
        if (p.a_transposed) {
            gemm_transposed(p, packed, row_begin, row_end);
        } else {
            gemm_copying(p, packed, row_begin, row_end);
        }
    });
}
