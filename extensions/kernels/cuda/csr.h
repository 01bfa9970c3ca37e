// A matrix in CSR form on the device, and the guards that make each of its indices safe to follow.
#pragma once

#include "device.h"
#include "kernels.h"

namespace opserve::cuda {

// A row of more entries than this is shared by all threads of a block.
constexpr int64_t kLongRow = 512;

template <class Index>
struct Graph {
    int64_t n, nnz;
    const Index* rowptr;
    const Index* col;
};

struct Entries {
    int64_t begin, end;
    bool usable;

    __device__ bool many() const { return end - begin > kLongRow; }
};

// The entries of a row in [0, n). A row whose ends cannot be right has none.
template <class Index>
__device__ __forceinline__ Entries find_entries(const Graph<Index>& graph, int64_t row) {
    const int64_t begin = static_cast<int64_t>(graph.rowptr[row]);
    const int64_t end = static_cast<int64_t>(graph.rowptr[row + 1]);
    const bool usable = begin >= 0 && begin <= end && end <= graph.nnz && (row != 0 || begin == 0) &&
                        (row != graph.n - 1 || end == graph.nnz);
    return usable ? Entries{begin, end, true} : Entries{0, 0, false};
}

// The column of an entry in [0, nnz), or -1 if it is not in [0, n).
template <class Index>
__device__ __forceinline__ int64_t find_column(const Graph<Index>& graph, int64_t entry) {
    const int64_t column = static_cast<int64_t>(graph.col[entry]);
    return static_cast<uint64_t>(column) < static_cast<uint64_t>(graph.n) ? column : -1;
}

template <class Index>
inline Graph<Index> make_graph(const Csr& csr) {
    return {csr.n, csr.nnz, static_cast<const Index*>(csr.rowptr), static_cast<const Index*>(csr.col)};
}

}  // namespace opserve::cuda
