#include "canvas.h"

#include <utility>

namespace opserve::native {
namespace {

// Rows that are turned on their side together, so that what is written for a pixel fills its cache line.
constexpr uint32_t kBand = 32;

Shape make_shape(Layout layout, int64_t height, int64_t width, int64_t colours) {
    switch (layout) {
        case Layout::kChw:
            return {colours, height, width};
        case Layout::kHwc:
            return {height, width, colours};
        default:
            return {height, width};
    }
}

}  // namespace

Canvas::Canvas(uint32_t width, uint32_t height, int colours, Layout layout, int orientation, DType dtype,
               bool in_order)
    : width_(width),
      height_(height),
      kept_(in_order ? std::min(height, kBand) : height),
      colours_(colours),
      in_order_(in_order),
      transposed_(orientation >= 5),
      row_bytes_(size_t{width} * static_cast<size_t>(colours)) {
    const ptrdiff_t rows = transposed_ ? width : height, columns = transposed_ ? height : width;
    array_ = Array::empty(dtype, make_shape(layout, rows, columns, colours));
    const bool planes = layout == Layout::kChw;
    deep_ = planes && colours == 3 ? rows * columns : 1;
    ptrdiff_t column = planes ? 1 : colours, row = column * columns;
    first_ = 0;
    if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) {
        first_ += (rows - 1) * row;
        row = -row;
    }
    if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7) {
        first_ += (columns - 1) * column;
        column = -column;
    }
    down_ = transposed_ ? column : row;
    across_ = transposed_ ? row : column;
    direct_ = dtype == DType::kUInt8 && orientation == 1 && (colours == 1 || !planes);
    if (direct_) {
        kept_ = height;
        rows_ = array_.as<uint8_t>();
    } else {
        kept_rows_ = std::make_unique_for_overwrite<uint8_t[]>(row_bytes_ * kept_);
        rows_ = kept_rows_.get();
    }
}

Array Canvas::finish() {
    if (!direct_ && !in_order_) {
        for (uint32_t y = 0; y < height_; y += kBand) store(y, std::min(height_, y + kBand));
    }
    return std::move(array_);
}

void Canvas::store(uint32_t begin, uint32_t end) {
    if (array_.dtype == DType::kFloat32) {
        colours_ == 1 ? store_as<float, 1>(begin, end) : store_as<float, 3>(begin, end);
    } else {
        colours_ == 1 ? store_as<uint8_t, 1>(begin, end) : store_as<uint8_t, 3>(begin, end);
    }
}

template <typename T, ptrdiff_t kColours>
void Canvas::store_as(uint32_t begin, uint32_t end) const {
    const uint8_t* from = rows_ + begin % kept_ * row_bytes_;
    T* const to = array_.as<T>() + first_ + begin * down_;
    const ptrdiff_t rows = end - begin, width = width_, row_bytes = static_cast<ptrdiff_t>(row_bytes_);
    if (transposed_) {
        for (ptrdiff_t x = 0; x < width; ++x) {
            for (ptrdiff_t colour = 0; colour < kColours; ++colour) {
                const uint8_t* const source = from + x * kColours + colour;
                T* const target = to + x * across_ + colour * deep_;
                for (ptrdiff_t y = 0; y < rows; ++y) target[y * down_] = source[y * row_bytes];
            }
        }
        return;
    }
    for (ptrdiff_t y = 0; y < rows; ++y) {
        const uint8_t* const source = from + y * row_bytes;
        T* const target = to + y * down_;
        if (across_ == kColours && deep_ == 1) {
            for (ptrdiff_t i = 0; i < row_bytes; ++i) target[i] = source[i];
        } else if (across_ == 1) {
            for (ptrdiff_t colour = 0; colour < kColours; ++colour) {
                for (ptrdiff_t x = 0; x < width; ++x)
                    target[x + colour * deep_] = source[x * kColours + colour];
            }
        } else {
            for (ptrdiff_t x = 0; x < width; ++x) {
                for (ptrdiff_t colour = 0; colour < kColours; ++colour) {
                    target[x * across_ + colour * deep_] = source[x * kColours + colour];
                }
            }
        }
    }
}

}  // namespace opserve::native
