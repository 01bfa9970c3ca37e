// A dense product, and the part of it that the sparse convolution shares. A tile of C is held in registers
// while it is summed. The order of the sums depends on the shape alone, never on the threads.

// 28 accumulators of the 32 registers of AVX-512, 12 of 16 elsewhere. A tile is one vector wide for a narrow
// B, else two, so that each broadcast element of A is used twice.
constexpr int64_t kAccumulators = OPSERVE_VECTOR_BYTES == 64 ? 28 : 12;
template <class T>
constexpr int64_t kPanel = 2 * kLanes<T>;
// How many rows are computed together: those of a tile for a narrow B. A buffer of A holds as many.
constexpr int64_t kGroupRows = kAccumulators;

// Where the elements of A that a tile multiplies are stored.
enum class Layout {
    // In our own buffer, whose rows are a constant distance apart: one register addresses all rows of a tile,
    // and they never compete for the same places in the cache.
    kBuffer,
    // As the caller stores it, row by row. Far: more than the caches hold, so it has to be prefetched early.
    kRows,
    kFarRows,
    // As the caller stores it, transposed.
    kColumns,
};

// How much of A a buffer holds. Sums over more terms than its depth are formed in parts, each from zero,
// which keeps rounding errors smaller than one long sum would.
template <class T>
constexpr int64_t kDepth = 1024 / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t kBufferStride = kDepth<T> + 64 / static_cast<int64_t>(sizeof(T));

template <class T>
struct Tile {
    const T* a;
    int64_t a_stride;  // not used with a buffer
    const T* b;
    int64_t b_stride;
    int64_t depth;
    int64_t rows;     // existing ones
    int64_t columns;  // written to C; of B whole vectors are read
    const T* bias;    // or null
    int64_t biases;   // existing columns of it
    bool accumulate;  // add to what C holds
    T* c;
    int64_t c_stride;
};

// The first element of each row, for rows `s1` bytes apart. x86 addresses a base plus 1, 2, 4 or 8 times an
// index, so few registers reach all rows; left to itself, the compiler makes a pointer for each row, more
// than there are registers.
template <class T>
struct RowHeads {
    const char *p0, *p9, *p18, *p27;
    int64_t s1, s3, s5, s7;

    OPSERVE_INLINE RowHeads(const T* a, int64_t stride) {
        s1 = stride * static_cast<int64_t>(sizeof(T));
        s3 = 3 * s1;
        s5 = 5 * s1;
        s7 = 7 * s1;
        p0 = reinterpret_cast<const char*>(a);
        p9 = p0 + 9 * s1;
        p18 = p0 + 18 * s1;
        p27 = p0 + 27 * s1;
        asm("" : "+r"(s3), "+r"(s5), "+r"(s7));
    }

    template <int64_t Rows>
    OPSERVE_INLINE void hide() {
        if constexpr (Rows > 9) asm("" : "+r"(p9));
        if constexpr (Rows > 18) asm("" : "+r"(p18));
        if constexpr (Rows > 27) asm("" : "+r"(p27));
    }

    OPSERVE_INLINE void advance() {
        p0 += sizeof(T);
        p9 += sizeof(T);
        p18 += sizeof(T);
        p27 += sizeof(T);
    }

    // `row` is a compile-time constant.
    OPSERVE_INLINE T at(int64_t row) const {
        const char* from = row < 9 ? p0 : row < 18 ? p9 : row < 27 ? p18 : p27;
        switch (row % 9) {
            case 1:
                from += s1;
                break;
            case 2:
                from += s1 * 2;
                break;
            case 3:
                from += s3;
                break;
            case 4:
                from += s1 * 4;
                break;
            case 5:
                from += s5;
                break;
            case 6:
                from += s3 * 2;
                break;
            case 7:
                from += s7;
                break;
            case 8:
                from += s1 * 8;
                break;
            default:
                break;
        }
        return *reinterpret_cast<const T*>(from);
    }
};

// Computes one tile of C. Of a buffer all `Rows` rows are computed; those that do not exist are computed from
// whatever it holds and dropped. Elsewhere all must exist.
template <class T, int64_t Rows, int64_t Vectors, Layout layout>
__attribute__((noinline)) void gemm_tile(const Tile<T>& t) {
    constexpr int64_t lanes = kLanes<T>;
    constexpr int64_t last = Vectors - 1;
    Vector<T> sum[Rows][Vectors];
#pragma GCC unroll 2
    for (int64_t v = 0; v < Vectors; ++v) {
        Vector<T> start{};
        const int64_t biases = t.biases - v * lanes;
        if (t.bias != nullptr && biases > 0) load_some(t.bias + v * lanes, min_of(biases, lanes), start);
#pragma GCC unroll 28
        for (int64_t r = 0; r < Rows; ++r) sum[r][v] = start;
    }
    // Prefetched now, C has arrived by the time it is written.
    if (t.depth >= 64) {
        for (int64_t r = 0; r < min_of(Rows, t.rows); ++r) {
            __builtin_prefetch(t.c + r * t.c_stride, 1);
            if constexpr (Vectors == 2) __builtin_prefetch(t.c + r * t.c_stride + lanes, 1);
        }
    }
    const T* b = t.b;
    const int64_t b_stride = t.b_stride;
    const auto add = [&](const auto& element) OPSERVE_LAMBDA_INLINE {
        Vector<T> vb[Vectors];
#pragma GCC unroll 2
        for (int64_t v = 0; v < Vectors; ++v) load(b + v * lanes, vb[v]);
#pragma GCC unroll 28
        for (int64_t r = 0; r < Rows; ++r) {
            const T scale = element(r);
#pragma GCC unroll 2
            for (int64_t v = 0; v < Vectors; ++v) sum[r][v] += scale * vb[v];
        }
        b += b_stride;
    };
    if constexpr (layout == Layout::kBuffer) {
        const T* a = t.a;
        for (int64_t d = 0; d < t.depth; ++d, ++a) {
            add([&](int64_t r) OPSERVE_LAMBDA_INLINE { return a[r * kBufferStride<T>]; });
        }
    } else if constexpr (layout == Layout::kColumns) {
        const T* a = t.a;
        const int64_t a_stride = t.a_stride;
        for (int64_t d = 0; d < t.depth; ++d, a += a_stride) {
            // The next tile reads what is next to this.
            __builtin_prefetch(a + Rows + kAccumulators, 0, 2);
            add([&](int64_t r) OPSERVE_LAMBDA_INLINE { return a[r]; });
        }
    } else if constexpr (layout == Layout::kRows) {
        RowHeads<T> a(t.a, t.a_stride);
        for (int64_t d = 0; d < t.depth; ++d, a.advance()) {
            a.template hide<Rows>();
            add([&](int64_t r) OPSERVE_LAMBDA_INLINE { return a.at(r); });
        }
    } else {
        // While a line of each row is multiplied, another is prefetched: a row or two at each step.
        constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
        constexpr int64_t ahead = 512;
        constexpr int64_t each = (Rows + line - 1) / line;
        RowHeads<T> a(t.a, t.a_stride);
        for (int64_t d = 0; d < t.depth;) {
            const int64_t stop = min_of(d + line, t.depth);
            const char* wanted = a.p0 + ahead;
            for (; d < stop; ++d, a.advance()) {
#pragma GCC unroll 4
                for (int64_t i = 0; i < each; ++i) __builtin_prefetch(wanted + i * a.s1, 0, 2);
                wanted += each * a.s1;
                a.template hide<Rows>();
                add([&](int64_t r) OPSERVE_LAMBDA_INLINE { return a.at(r); });
            }
        }
    }
    const Mask<T> mask(t.columns - last * lanes);
#pragma GCC unroll 28
    for (int64_t r = 0; r < Rows; ++r) {
        if (layout == Layout::kBuffer && r >= t.rows) break;
        T* to = t.c + r * t.c_stride;
#pragma GCC unroll 2
        for (int64_t v = 0; v < Vectors; ++v) {
            Vector<T> before{};
            if (v < last) {
                if (t.accumulate) load(to + v * lanes, before);
                store<T>(sum[r][v] + before, to + v * lanes);
            } else {
                if (t.accumulate) load_masked(to + v * lanes, mask, before);
                store_masked(sum[r][v] + before, mask, to + v * lanes);
            }
        }
    }
}

// Computes as many rows as a tile holds, and returns how many. Rows of a buffer that do not exist may be
// computed and dropped, so there the tile covers all rows; elsewhere no such row may be read, so the tile
// fits into them.
template <class T, int64_t Vectors, Layout layout>
int64_t gemm_some_rows(const Tile<T>& t) {
    constexpr int64_t most = kAccumulators / Vectors;
    constexpr bool beyond = layout == Layout::kBuffer;
#define OPSERVE_HEIGHT(height, next)                     \
    if constexpr ((height) <= most) {                    \
        if (t.rows > (beyond ? (next) : (height) - 1)) { \
            gemm_tile<T, (height), Vectors, layout>(t);  \
            return min_of(t.rows, (height));             \
        }                                                \
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

// Whether B is packed first: in panels of two vectors of columns, the last one of a single vector if that
// suffices, each in the order in which a tile reads it, padded with zeros. Otherwise it is read in place.
template <class T>
OPSERVE_INLINE bool gemm_packs(const GemmParams<T>& p) {
    return p.b_transposed || (p.n % kLanes<T> != 0 && !p.b_padded) ||
           (p.n > kPanel<T> && p.m > 3 * kGroupRows);
}

// How many pieces of work of this size are worth another thread.
OPSERVE_INLINE int64_t choose_grain(double worthwhile, double piece) {
    return piece >= worthwhile ? 1 : static_cast<int64_t>(worthwhile / (piece + 1.0)) + 1;
}

template <class T>
void pack_panels(const GemmParams<T>& p, const ParallelFor& parallel_for) {
    constexpr int64_t panel = kPanel<T>, lanes = kLanes<T>;
    // By parts of the depth, too: a narrow B has one panel.
    constexpr int64_t part = 1024;
    const int64_t panels = (p.n + panel - 1) / panel, parts = (p.k + part - 1) / part;
    const double elements = static_cast<double>(panel * min_of(part, p.k));
    parallel_for(panels * parts, choose_grain(16384.0, elements), [&p, parts](int64_t begin, int64_t end) {
        for (int64_t piece = begin; piece < end; ++piece) {
            const int64_t column = piece / parts * panel, first = piece % parts * part;
            const int64_t depth = min_of(part, p.k - first);
            const int64_t columns = min_of(panel, p.n - column);
            const int64_t width = columns <= lanes ? lanes : panel;
            T* to = p.packed_b + column * p.k + first * width;
            if (p.b_transposed) {
                const T* from = p.b + column * p.b_stride + first;
                // A few elements of each line at a time, so that it is still in the cache for the next few.
                for (int64_t d = 0; d < depth; d += lanes) {
                    const int64_t stop = min_of(d + lanes, depth);
                    for (int64_t i = 0; i < width; ++i) {
                        const T* line = from + i * p.b_stride;
                        for (int64_t j = d; j < stop; ++j) to[j * width + i] = i < columns ? line[j] : T(0);
                    }
                }
                continue;
            }
            const T* from = p.b + first * p.b_stride + column;
            const Mask<T> mask(columns - (width - lanes));
            for (int64_t d = 0; d < depth; ++d, from += p.b_stride, to += width) {
                Vector<T> b;
                if (width == panel) {
                    load(from, b);
                    store<T>(b, to);
                }
                load_masked(from + width - lanes, mask, b);
                store<T>(b, to + width - lanes);
            }
        }
    });
}

// C[row …] (+)= A·B for some rows and part of the depth; `a` is where that part of A begins. Bias is added
// once, with the first part of the depth. A tile is at most `height` rows high.
template <class T, Layout layout>
void gemm_block(const GemmParams<T>& p, bool packed, const T* a, int64_t row, int64_t rows,
                int64_t depth_begin, int64_t depth, int64_t height = kAccumulators) {
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
        t.accumulate = depth_begin > 0;
        t.bias = p.bias == nullptr || t.accumulate ? nullptr : p.bias + column;
        t.biases = columns;
        t.c_stride = p.c_stride;
        const int64_t a_stride = layout == Layout::kBuffer    ? kBufferStride<T>
                                 : layout == Layout::kColumns ? 1
                                                              : p.a_stride;
        // Tiles of similar heights: a low one at the end would take almost as long as a high one.
        const int64_t most = min_of(height, kAccumulators / vectors), tiles = (rows + most - 1) / most;
        const int64_t each = (rows + tiles - 1) / tiles;
        for (int64_t done = 0; done < rows;) {
            t.a = a + done * a_stride;
            t.c = p.c + (row + done) * p.c_stride + column;
            t.rows = min_of(rows - done, each + each % 2);
            done += vectors == 1 ? gemm_some_rows<T, 1, layout>(t) : gemm_some_rows<T, 2, layout>(t);
        }
    }
}

// Rows of the buffer beyond the existing ones take part in the computation: they must not hold subnormal
// numbers, which are slow.
template <class T>
OPSERVE_INLINE void clear_rows(T* buffer, int64_t rows, int64_t depth) {
    const int64_t until = min_of(kGroupRows, rows + 4);
    for (int64_t r = rows; r < until; ++r) {
        for (int64_t i = 0; i < depth; i += kLanes<T>)
            store<T>(Vector<T>{}, buffer + r * kBufferStride<T> + i);
    }
}

template <class T>
void gemm_rows(const GemmParams<T>& p, bool packed, int64_t row_begin, int64_t row_end) {
    constexpr int64_t size = static_cast<int64_t>(sizeof(T));
    // Rows this far apart share the few places that the first-level cache has for an address: fewer of them
    // fit at a time.
    const int64_t height = p.n <= kLanes<T> && p.a_stride * size % 4096 == 0 ? 10 : kAccumulators;
    // More than what is left of a shared cache.
    const bool far = p.m * p.k > (int64_t{24} << 20) / size;
    for (int64_t row = row_begin; row < row_end; row += kGroupRows) {
        const int64_t rows = min_of(kGroupRows, row_end - row);
        // At least once, so that an empty sum still writes the bias.
        int64_t depth_begin = 0;
        do {
            const int64_t depth = min_of(kDepth<T>, p.k - depth_begin);
            const T* a = p.a + row * p.a_stride + depth_begin;
            if (far && p.n <= kPanel<T>) {
                gemm_block<T, Layout::kFarRows>(p, packed, a, row, rows, depth_begin, depth, height);
            } else {
                gemm_block<T, Layout::kRows>(p, packed, a, row, rows, depth_begin, depth, height);
            }
            depth_begin += depth;
        } while (depth_begin < p.k);
    }
}

// The part of a transposed A that the second-level cache holds is multiplied by all of B that belongs to it,
// so that it comes from memory once and in order.
template <class T>
void gemm_columns(const GemmParams<T>& p, bool packed, int64_t row_begin, int64_t row_end) {
    int64_t depth_begin = 0;
    do {
        const int64_t depth = min_of(kDepth<T>, p.k - depth_begin);
        gemm_block<T, Layout::kColumns>(p, packed, p.a + depth_begin * p.a_stride + row_begin, row_begin,
                                        row_end - row_begin, depth_begin, depth);
        depth_begin += depth;
    } while (depth_begin < p.k);
}

// Prepares parameters for gemm_range: B is packed where that pays. False if nothing is to be written.
template <class T>
bool gemm_prepare(GemmParams<T>& p, bool& packed, const ParallelFor& parallel_for) {
    packed = false;
    if (p.m == 0 || p.n == 0) return false;
    // Matrices without elements may have no address; nothing of them is read, but places in them are
    // computed.
    if (p.k == 0) p.a = p.b = p.c;
    packed = gemm_packs(p);
    if (packed) pack_panels(p, parallel_for);
    return true;
}

template <class T>
void gemm_range(const GemmParams<T>& p, bool packed, int64_t row_begin, int64_t row_end) {
    if (p.a_transposed) {
        gemm_columns(p, packed, row_begin, row_end);
    } else {
        gemm_rows(p, packed, row_begin, row_end);
    }
}

// Rows are assigned in small groups, so that each thread gets equally many: the sum of an element does not
// depend on which rows share a tile.
template <class Function>
void for_row_ranges(int64_t rows, double flops_per_row, const ParallelFor& parallel_for,
                    const Function& function) {
    constexpr int64_t unit = 4;
    parallel_for((rows + unit - 1) / unit, choose_grain(1e6, unit * flops_per_row),
                 [=](int64_t begin, int64_t end) { function(begin * unit, min_of(end * unit, rows)); });
}

template <class T>
double flops_per_row(const GemmParams<T>& p) {
    return 2.0 * static_cast<double>(p.n) * static_cast<double>(p.k);
}

template <class T>
void gemm(const GemmParams<T>& given, const ParallelFor& parallel_for) {
    GemmParams<T> p = given;
    bool packed = false;
    if (!gemm_prepare(p, packed, parallel_for)) return;
    for_row_ranges(p.m, flops_per_row(p), parallel_for,
                   [&p, packed](int64_t begin, int64_t end) { gemm_range(p, packed, begin, end); });
}

// The second product's A is the first's C: a row of one needs only the same row of the other, so both are
// computed a few rows at a time, and threads meet once.
template <class T>
void gemm_chain(const GemmParams<T>& first, const GemmParams<T>& second, const ParallelFor& parallel_for) {
    GemmParams<T> one = first, other = second;
    bool one_packed = false, other_packed = false;
    const bool summed = gemm_prepare(one, one_packed, parallel_for);
    if (!gemm_prepare(other, other_packed, parallel_for)) return;
    const double flops = flops_per_row(one) + flops_per_row(other);
    for_row_ranges(other.m, flops, parallel_for, [&, summed](int64_t begin, int64_t end) {
        constexpr int64_t block = 2 * kGroupRows;
        for (int64_t row = begin; row < end; row += block) {
            const int64_t stop = min_of(row + block, end);
            if (summed) gemm_range(one, one_packed, row, stop);
            gemm_range(other, other_packed, row, stop);
        }
    });
}

template <class T>
void column_sums(int64_t rows, int64_t columns, const T* a, int64_t stride, T* out,
                 const ParallelFor& parallel_for) {
    constexpr int64_t lanes = kLanes<T>, band = 4 * lanes;
    const int64_t bands = (columns + band - 1) / band;
    parallel_for(bands, max_of(1, 65536 / (rows * band + 1)), [=](int64_t begin, int64_t end) {
        for (int64_t column = begin * band; column < min_of(end * band, columns); column += lanes) {
            const int64_t here = min_of(lanes, columns - column);
            const Mask<T> mask(here);
            Vector<T> total{};
            // Sums of sums have smaller rounding errors than one long sum.
            constexpr int64_t part = 128;
            for (int64_t first = 0; first < rows; first += part) {
                Vector<T> sum{};
                for (int64_t row = first; row < min_of(first + part, rows); ++row) {
                    Vector<T> term;
                    load_masked(a + row * stride + column, mask, term);
                    sum += term;
                }
                total += sum;
            }
            store_masked(total, mask, out + column);
        }
    });
}
