// One row times a band of `Vectors` vectors of columns, summed in registers.
template <class T, class Index, int Vectors, bool Whole>
OPSERVE_INLINE void spmm_band(const SpmmParams<T, Index>& p, int64_t row, int64_t column) {
    constexpr int64_t lanes = kLanes<T>;
    const int64_t here = p.width - column;  // of interest only to a band that is not whole
    Vector<T> sum[Vectors] = {};
    if (p.bias != nullptr) {
        for (int v = 0; v < Vectors; ++v) {
            if constexpr (Whole) {
                load(p.bias + column + v * lanes, sum[v]);
            } else {
                load_some(p.bias + column, here, sum[v]);
            }
        }
    }
    const bool readable = Whole || p.x_columns - column >= lanes;
    const int64_t last = static_cast<int64_t>(p.rowptr[row + 1]);
    for (int64_t e = static_cast<int64_t>(p.rowptr[row]); e < last; ++e) {
        const T* from = p.x + static_cast<int64_t>(p.col[e]) * p.x_stride + column;
        const T scale = p.value == nullptr ? T(1) : p.value[e];
        for (int v = 0; v < Vectors; ++v) {
            Vector<T> x;
            if (Whole || readable) {
                load(from + v * lanes, x);
            } else {
                load_some(from, here, x);
            }
            sum[v] += scale * x;
        }
    }
    T* to = p.out + row * p.out_stride + column;
    for (int v = 0; v < Vectors; ++v) {
        if constexpr (Whole) {
            store<T>(sum[v], to + v * lanes);
        } else {
            store_some<T>(sum[v], here, to);
        }
    }
}

template <class T, class Index>
void spmm(const SpmmParams<T, Index>& p, const ParallelFor& parallel_for) {
    constexpr int64_t lanes = kLanes<T>;
    if (p.rows == 0 || p.width == 0) return;
    const int64_t entries_per_row = static_cast<int64_t>(p.rowptr[p.rows]) / p.rows + 1;
    const int64_t grain = max_of(1, 65536 / max_of(1, entries_per_row * p.width));
    parallel_for(p.rows, grain, [&p](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            int64_t column = 0;
            for (; column + 4 * lanes <= p.width; column += 4 * lanes)
                spmm_band<T, Index, 4, true>(p, row, column);
            for (; column + lanes <= p.width; column += lanes) spmm_band<T, Index, 1, true>(p, row, column);
            if (column < p.width) spmm_band<T, Index, 1, false>(p, row, column);
        }
    });
}
