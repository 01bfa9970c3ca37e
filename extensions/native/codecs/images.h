// The pixels of an uploaded PNG or JPEG, as an array of the shape that an input asks for: handlers/codecs/images.py,
// png.py, jpeg.py and image_file.py, to the bit.
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

// Returns uint8 pixels in C order (not yet converted to spec.dtype). Throws RequestError.
Array decode_image(const Buffer& content, const TensorSpec& spec, Budget& budget);

}  // namespace opserve::native
