// libjpeg-turbo, used as Pillow uses it: what it warns of is ignored, data that end too early are refused.
#pragma once

#include <cstddef>
#include <span>

#include "canvas.h"

namespace opserve::native {

// Draws a JPEG of 1, 3 or 4 components and of the size of the canvas. Throws DamagedImage, std::bad_alloc.
void decode_jpeg(std::span<const std::byte> content, int components, Canvas& canvas);

}  // namespace opserve::native
