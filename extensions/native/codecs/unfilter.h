// Undoes the filters of a PNG's rows (PNG, third edition, 9).
#pragma once

#include <cstddef>
#include <cstdint>

namespace opserve::native {

// Writes a row to `to` of the filtered bytes `from` and the row above it; neither overlaps `to`. A pixel has
// `step` bytes (1 if it has less than one), `size` is a multiple of that. Returns false if there is no such
// filter.
bool unfilter(uint8_t filter, const uint8_t* from, const uint8_t* above, uint8_t* to, size_t size, int step);

}  // namespace opserve::native
