// Arrays in other dtypes and orders, with NumPy's values.
#pragma once

#include "../common/array.h"

namespace opserve::native {

enum class Cast {
    kDone,
    kOutOfRange,  // a number that the dtype cannot hold
    kInexact,     // a whole float so large that it may have been rounded
};

// Fills `to`, an array of the same shape, with the numbers of `from`; both are in C order and native, and
// `from` need not be aligned. Floats may be rounded, integers are exact. `typed`: as for `convert`. Not for
// bool.
Cast cast(const Array& from, Array& to, bool typed);

// Whether the elements lie in C order, whatever the array says of itself.
bool is_c_order(const Array& array);

// Returns a copy in C order and native.
Array rearranged(const Array& array);

// Whether all numbers of an array (in C order, native and aligned) are finite and at least `minimum`.
bool all_finite_from(const Array& array, double minimum);

}  // namespace opserve::native
