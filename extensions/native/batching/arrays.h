// What batching does with single arrays: rows along the first dimension.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../common/array.h"

namespace opserve::native {

// Returns the array with this name. Throws std::runtime_error if there is none.
const Array& get(const Arrays& arrays, std::string_view name);

// "[2, 3]", as a list has it in Python.
std::string describe(const Shape& shape);

// The number of rows. Throws std::runtime_error for an array without dimensions.
int64_t count_rows(const Array& array);

// Rows `begin` to `end` (exclusive), as a view.
Array take_rows(const Array& array, int64_t begin, int64_t end);

// Row `index` without the first dimension, as a view.
Array take_row(const Array& array, int64_t index);

// All rows one after the other, in a new array. Throws std::runtime_error if dtypes or row shapes differ.
Array concatenate(std::span<const Array* const> arrays);

// Arrays of equal shapes along a new first dimension, in a new array. Throws std::runtime_error if dtypes or
// shapes differ.
Array stack(std::span<const Array* const> arrays);

}  // namespace opserve::native
