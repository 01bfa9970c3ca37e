// What PNG and JPEG files have in common: the ways in which they are refused, their orientation, and shades
// of grey.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace opserve::native {

// A file is not an image of its kind, or is incomplete; the message says why, in a clause.
class DamagedImage : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// An image takes too long to decode for what it shows; the message says why, in a clause.
class ImageTooComplex : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Returns the orientation in EXIF data, 1 to 8; 1 (upright) if there is none or they are damaged.
// `exif` is a TIFF structure, with or without "Exif" in front of it.
int read_orientation(std::span<const std::byte> exif);

// The grey of a colour as Pillow has it: ITU-R 601-2, rounded.
inline uint8_t luma(unsigned red, unsigned green, unsigned blue) {
    return static_cast<uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
}

}  // namespace opserve::native
