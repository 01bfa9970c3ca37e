// The pixels of an uploaded PNG or JPEG, as an array of the shape that an input asks for:
// handlers/codecs/images.py, png.py, jpeg.py and image_file.py, to the bit.
#pragma once

#include "../common/array.h"
#include "../signature/signature.h"
#include "budget.h"
#include "request.h"

namespace opserve::native {

inline constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n";
inline constexpr std::string_view kJpegMagic = "\xff\xd8\xff";

// Whether this input can be sent as an image: [H, W], [1|3, H, W] or [H, W, 1|3].
bool accepts_image(const TensorSpec& spec);

// Decodes a PNG or JPEG: grey for [H, W] and one channel, RGB for three; 8 bits per sample (16-bit PNGs are
// scaled down); an orientation in the EXIF data is applied, as OpenCV and every viewer do, so that pixel
// positions are those a person sees. Returns float32 if that is spec.dtype, otherwise uint8 that is not yet
// converted to it. Throws RequestError: not a PNG or JPEG, damaged, or (413) of more pixels or bytes than
// `budget` has left, or made so that it takes too long.
Array decode_image(const Buffer& content, const TensorSpec& spec, Budget& budget);

}  // namespace opserve::native
