// The array that an image becomes: its pixels in the layout, the orientation and the dtype that are asked
// for, of rows as a decoder makes them. In the usual cases the decoder writes into the array itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../common/array.h"

namespace opserve::native {

// One colour is a shade of grey, three are red, green and blue.
enum class Layout : uint8_t { kHw, kChw, kHwc };

class Canvas {
  public:
    // Makes room for an image of `width` x `height` pixels in its file, which the caller has counted.
    // `orientation` is that of EXIF; `dtype` is kUInt8 or kFloat32. Unless `in_order`, all rows are kept
    // until the end.
    Canvas(uint32_t width, uint32_t height, int colours, Layout layout, int orientation, DType dtype,
           bool in_order);

    uint32_t width() const { return width_; }
    uint32_t height() const { return height_; }
    int colours() const { return colours_; }

    // Where the pixels of a row of the file belong, `width` x `colours` bytes. If the rows come in order,
    // those of the row before are still there, too.
    uint8_t* row(uint32_t y) { return rows_ + y % kept_ * row_bytes_; }

    // Says that a row, and every row before it, is there; only if they come in order.
    void commit(uint32_t y) {
        if (!direct_ && (y % kept_ == kept_ - 1 || y == height_ - 1)) store(y - y % kept_, y + 1);
    }

    // Returns the array once all rows are there.
    Array finish();

  private:
    void store(uint32_t begin, uint32_t end);
    template <typename T, ptrdiff_t kColours>
    void store_as(uint32_t begin, uint32_t end) const;

    uint32_t width_, height_, kept_;
    int colours_;
    bool in_order_, transposed_, direct_;
    size_t row_bytes_;
    Array array_;
    // From row to row, pixel to pixel and colour to colour of the file, in elements of the array, and its
    // first pixel.
    ptrdiff_t down_, across_, deep_, first_;
    std::unique_ptr<uint8_t[]> kept_rows_;
    uint8_t* rows_;
};

}  // namespace opserve::native
