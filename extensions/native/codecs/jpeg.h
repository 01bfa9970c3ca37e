// Parses a JPEG: its frame, the number of scans over its pixels, and its orientation:
// handlers/codecs/jpeg.py. What decoding does not need (EXIF, XMP, profiles, comments, previews, further
// images) is not passed to the decoder. (ITU-T T.81, annex B.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "canvas.h"

namespace opserve::native {

struct Jpeg {
    uint32_t width = 0, height = 0;
    int orientation = 1;                             // as in EXIF
    int components = 0;                              // of a pixel
    uint64_t samples = 0;                            // those that its scans pass over, all together
    std::vector<std::span<const std::byte>> pieces;  // what the decoder needs of the file

    bool rows_in_order() const { return true; }

    // Draws the pixels that libjpeg-turbo gives with the settings that Pillow has. Throws DamagedImage;
    // ImageTooComplex: its scans pass over its pixels too often.
    void decode(Canvas& canvas) const;
};

// Parses a JPEG, which the bytes begin like, without decoding a pixel; the result views them. Throws
// DamagedImage: its frame is not accepted, or the file ends too early; ImageTooComplex: it has too many
// segments or scans.
Jpeg parse_jpeg(std::span<const std::byte> content);

}  // namespace opserve::native
