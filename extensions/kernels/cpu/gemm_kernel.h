// A dense product with B packed in panels of kPanel columns, so that the inner loop reads it in order, and a
// tile of C held in registers. The order of the sums depends on the shape alone, never on the threads.

// 24 accumulators of the 32 registers of AVX-512; 12 of 16 elsewhere. Two vectors wide, so that each element
// of A that is broadcast is used twice.
constexpr int64_t kTileRows = OPSERVE_VECTOR_BYTES == 64 ? 12 : 6;
constexpr int64_t kTileVectors = 2;
template <class T>
constexpr int64_t kPanel = kTileVectors * kLanes<T>;
// A panel of this depth stays in the first-level cache.
template <class T>
constexpr int64_t kDepth = 1024 / static_cast<int64_t>(sizeof(T));
constexpr int64_t kBlockRows = 4 * kTileRows;

template <class T>
int64_t gemm_packed_elements(int64_t k, int64_t n) {
    int64_t panels = n / kPanel<T> + (n % kPanel<T> != 0), elements = 0;
    if (__builtin_mul_overflow(panels * kPanel<T>, k, &elements)) return -1;
    return elements;
}

template <class T>
void pack_panels(const GemmParams<T>& p, const ParallelFor& parallel_for) {
    constexpr int64_t panel = kPanel<T>;
    const int64_t panels = (p.n + panel - 1) / panel;
    const int64_t grain = max_of(1, 32768 / max_of(1, p.k * panel));
    parallel_for(panels, grain, [&p](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; ++j) {
            const int64_t columns = min_of(panel, p.n - j * panel);
            const T* from = p.b + j * panel;
            T* to = p.packed_b + j * panel * p.k;
            for (int64_t row = 0; row < p.k; ++row, from += p.b_stride, to += panel) {
                for (int64_t column = 0; column < columns; ++column) to[column] = from[column];
                for (int64_t column = columns; column < panel; ++column) to[column] = T(0);
            }
        }
    });
}

// C[rows, kPanel] (+)= A[rows, depth]·panel.
template <class T, int64_t Rows>
OPSERVE_INLINE void gemm_tile(const T* a, int64_t a_stride, const T* b, int64_t depth, const T* bias,
                              bool accumulate, T* c, int64_t c_stride, int64_t columns, int64_t writable) {
    constexpr int64_t lanes = kLanes<T>;
    Vector<T> sum[Rows][kTileVectors];
    for (int64_t v = 0; v < kTileVectors; ++v) {
        const int64_t here = columns - v * lanes;
        Vector<T> start{};
        if (!accumulate && bias != nullptr && here > 0) {
            if (here >= lanes) {
                load(bias + v * lanes, start);
            } else {
                load_some(bias + v * lanes, here, start);
            }
        }
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
            sum[r][v] = start;
            if (accumulate && here > 0) {
                const T* from = c + r * c_stride + v * lanes;
                if (here >= lanes) {
                    load(from, sum[r][v]);
                } else {
                    load_some(from, here, sum[r][v]);
                }
            }
        }
    }
    for (int64_t d = 0; d < depth; ++d, b += kPanel<T>) {
        Vector<T> b0, b1;
        load(b, b0);
        load(b + lanes, b1);
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
            const T scale = a[r * a_stride + d];
            sum[r][0] += scale * b0;
            sum[r][1] += scale * b1;
        }
    }
    for (int64_t v = 0; v < kTileVectors; ++v) {
        const int64_t here = columns - v * lanes;
        if (here <= 0) break;
        const bool whole = writable - v * lanes >= lanes;
#pragma GCC unroll 16
        for (int64_t r = 0; r < Rows; ++r) {
            T* to = c + r * c_stride + v * lanes;
            if (whole) {
                store<T>(sum[r][v], to);
            } else {
                store_some<T>(sum[r][v], here, to);
            }
        }
    }
}

template <class T, int64_t Rows>
__attribute__((noinline)) void gemm_rows(const T* a, int64_t a_stride, const T* b, int64_t depth,
                                         const T* bias, bool accumulate, T* c, int64_t c_stride,
                                         int64_t columns, int64_t writable) {
    gemm_tile<T, Rows>(a, a_stride, b, depth, bias, accumulate, c, c_stride, columns, writable);
}

template <class T>
void gemm_rows_some(int64_t rows, const T* a, int64_t a_stride, const T* b, int64_t depth, const T* bias,
                    bool accumulate, T* c, int64_t c_stride, int64_t columns, int64_t writable) {
    while (rows > 0) {
        int64_t done = 1;
        if (rows >= 6) {
            done = 6;
            gemm_rows<T, 6>(a, a_stride, b, depth, bias, accumulate, c, c_stride, columns, writable);
        } else if (rows >= 3) {
            done = 3;
            gemm_rows<T, 3>(a, a_stride, b, depth, bias, accumulate, c, c_stride, columns, writable);
        } else {
            gemm_rows<T, 1>(a, a_stride, b, depth, bias, accumulate, c, c_stride, columns, writable);
        }
        rows -= done;
        a += done * a_stride;
        c += done * c_stride;
    }
}

template <class T>
void gemm(const GemmParams<T>& p, const ParallelFor& parallel_for) {
    constexpr int64_t panel = kPanel<T>;
    if (p.m == 0 || p.n == 0) return;
    pack_panels(p, parallel_for);
    const int64_t blocks = (p.m + kBlockRows - 1) / kBlockRows;
    const double flops_per_block =
        2.0 * static_cast<double>(kBlockRows) * static_cast<double>(p.n) * static_cast<double>(p.k);
    const int64_t grain = flops_per_block > 5e5 ? 1 : static_cast<int64_t>(5e5 / (flops_per_block + 1.0)) + 1;
    parallel_for(blocks, grain, [&p](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
            const int64_t first = block * kBlockRows;
            const int64_t last = min_of(first + kBlockRows, p.m);
            // At least once, so that an empty sum still writes the bias.
            int64_t depth_begin = 0;
            do {
                const int64_t depth = min_of(kDepth<T>, p.k - depth_begin);
                for (int64_t column = 0; column < p.n; column += panel) {
                    const T* b = p.packed_b + column * p.k + depth_begin * panel;
                    const T* bias = p.bias == nullptr ? nullptr : p.bias + column;
                    for (int64_t row = first; row < last; row += kTileRows) {
                        const T* a = p.a + row * p.a_stride + depth_begin;
                        T* c = p.c + row * p.c_stride + column;
                        const int64_t rows = last - row;
                        if (rows >= kTileRows) {
                            gemm_rows<T, kTileRows>(a, p.a_stride, b, depth, bias, depth_begin > 0, c,
                                                    p.c_stride, p.n - column, p.c_columns - column);
                        } else {
                            gemm_rows_some<T>(rows, a, p.a_stride, b, depth, bias, depth_begin > 0, c,
                                              p.c_stride, p.n - column, p.c_columns - column);
                        }
                    }
                }
                depth_begin += depth;
            } while (depth_begin < p.k);
        }
    });
}
