// Parses a PNG: its header, palette, pixels and orientation; everything else in it is skipped:
// handlers/codecs/png.py. (PNG, third edition, 5 and 10.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "canvas.h"

namespace opserve::native {

struct Png {
    uint32_t width = 0, height = 0;
    int orientation = 1;      // as in EXIF
    int depth = 0;            // bits per sample
    int colour = 0;           // the colour type
    int samples = 0;          // of a pixel
    bool interlaced = false;  // the pixels come in seven passes
    // Red, green and blue of each index; empty if the pixels are not indices.
    std::span<const std::byte> palette;
    // The compressed pixels.
    std::vector<std::span<const std::byte>> data;

    bool rows_in_order() const { return !interlaced; }

    // Draws the pixels. Throws DamagedImage: they are fewer than the header says, or not compressed as they
    // should be; ImageTooComplex: they take too long to unpack.
    void decode(Canvas& canvas) const;
};

// Parses a PNG, which the bytes begin like, without decoding a pixel; the result views them. Throws
// DamagedImage, ImageTooComplex.
Png parse_png(std::span<const std::byte> content);

}  // namespace opserve::native
