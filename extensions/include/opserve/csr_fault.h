// What can be wrong with the values of a matrix in CSR form, and how it is reported: the same on every
// device.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "opserve/status.h"

namespace opserve::check {

struct CsrFault {
    enum class Kind { kNone, kStart, kDecrease, kEnd, kColumn };
    Kind kind = Kind::kNone;
    int64_t at = 0;      // into rowptr or col
    int64_t value = 0;   // what is there
    int64_t before = 0;  // for kDecrease, the one before
};

Status csr_fault(const char* op, const CsrFault& fault, int64_t n, int64_t nnz);

// Returns the first fault of a matrix in host memory. The first loops only detect that something is wrong,
// which vectorizes; then the fault is located.
template <class Index>
CsrFault find_csr_fault(const Index* rowptr, const Index* col, int64_t n, int64_t nnz) {
    using Kind = CsrFault::Kind;
    if (rowptr[0] != 0) return {Kind::kStart, 0, static_cast<int64_t>(rowptr[0])};
    bool decreasing = false;
    for (int64_t i = 0; i < n; ++i) decreasing |= rowptr[i + 1] < rowptr[i];
    for (int64_t i = 0; decreasing && i < n; ++i) {
        if (rowptr[i + 1] < rowptr[i]) {
            return {Kind::kDecrease, i + 1, static_cast<int64_t>(rowptr[i + 1]),
                    static_cast<int64_t>(rowptr[i])};
        }
    }
    if (static_cast<int64_t>(rowptr[n]) != nnz) return {Kind::kEnd, n, static_cast<int64_t>(rowptr[n])};
    using Unsigned = std::make_unsigned_t<Index>;
    // int32 cannot index more rows than it can count.
    constexpr int64_t largest = std::numeric_limits<Index>::max();
    const Unsigned limit = static_cast<Unsigned>(n <= largest ? n : largest + Unsigned{1});
    bool outside = false;
    for (int64_t e = 0; e < nnz; ++e) outside |= static_cast<Unsigned>(col[e]) >= limit;
    for (int64_t e = 0; outside && e < nnz; ++e) {
        if (static_cast<Unsigned>(col[e]) >= limit) return {Kind::kColumn, e, static_cast<int64_t>(col[e])};
    }
    return {};
}

}  // namespace opserve::check
