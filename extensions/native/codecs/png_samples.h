// From the samples in a PNG to 8 bits per colour, as Pillow converts them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "png.h"

namespace opserve::native {

// What each index, or each grey of less than 8 bits, becomes.
using PngTable = std::array<uint8_t, 3 * 256>;

PngTable make_table(const Png& png, int colours);

// Converts pixels of a row.
using PngConvert = void (*)(const uint8_t* from, uint8_t* to, size_t pixels, const PngTable& table);

PngConvert choose_convert(const Png& png, int colours);

}  // namespace opserve::native
