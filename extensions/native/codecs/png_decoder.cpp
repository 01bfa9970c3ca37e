#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "image_file.h"
#include "inflate.h"
#include "png.h"
#include "png_samples.h"
#include "unfilter.h"

namespace opserve::native {
namespace {

// Bytes that are unpacked at a time.
constexpr size_t kBlock = 0xFFFF;

// First column and row of the seven passes of an interlaced image, and the steps from there.
struct Pass {
    uint32_t column, row, columns, rows;

    uint32_t width(uint32_t of) const { return of > column ? (of - column + columns - 1) / columns : 0; }
    uint32_t height(uint32_t of) const { return of > row ? (of - row + rows - 1) / rows : 0; }
};
constexpr Pass kPasses[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                            {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

// The unpacked rows, one after the other, each preceded by the number of its filter.
class Rows {
  public:
    // `size`: the bytes of all rows; `longest`: those of one.
    Rows(const Png& png, uint64_t size, size_t longest)
        : stream_(png.data, Wrapper::kZlib),
          left_(size),
          buffer_(std::make_unique_for_overwrite<uint8_t[]>(std::min<uint64_t>(size, longest + kBlock))) {}

    // The next row, of `size` bytes with its filter.
    const uint8_t* next(size_t size) {
        if (end_ - begin_ < size) fill(size);
        const uint8_t* row = &buffer_[begin_];
        begin_ += size;
        return row;
    }

    void skip_all() {
        while (left_ > 0) {
            begin_ = end_ = 0;
            unpack();
        }
    }

    // Compares the checksum, if it follows; what an encoder wrote after the last row does not matter.
    void finish() {
        std::byte more;
        read({&more, 1});
    }

  private:
    void fill(size_t size) {
        std::memmove(&buffer_[0], &buffer_[begin_], end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
        while (end_ < size) unpack();
    }

    void unpack() {
        const size_t size = std::min<uint64_t>(left_, kBlock);
        const size_t count = read({reinterpret_cast<std::byte*>(&buffer_[end_]), size});
        if (count == 0) throw DamagedImage("it has fewer pixels than its header says");
        end_ += count;
        left_ -= count;
    }

    size_t read(std::span<std::byte> out) {
        try {
            return stream_.read_some(out);
        } catch (const DamagedStream& error) {
            throw DamagedImage("its pixels cannot be unpacked (" + std::string(error.what()) + ")");
        } catch (const TooSlow&) {
            throw ImageTooComplex("its pixels take too long to unpack");
        }
    }

    InflateStream stream_;
    uint64_t left_;  // to be unpacked
    std::unique_ptr<uint8_t[]> buffer_;
    size_t begin_ = 0, end_ = 0;
};

class Decoder {
  public:
    Decoder(const Png& png, Canvas& canvas)
        : png_(png),
          canvas_(canvas),
          bits_(static_cast<size_t>(png.samples * png.depth)),
          longest_(row_bytes(png.width)),
          plain_(png.depth == 8 && png.colour != 3 && png.samples == canvas.colours()),
          convert_(choose_convert(png, canvas.colours())),
          table_(make_table(png, canvas.colours())),
          rows_(png, count_bytes(), longest_ + 1),
          lines_(std::make_unique<uint8_t[]>(2 * longest_)) {}

    void run() {
        const bool sound = png_.interlaced ? draw_passes() : draw_rows();
        // What is wrong with the stream counts for more than a filter that does not exist: it may be a 413.
        if (!sound) rows_.skip_all();
        rows_.finish();
        if (!sound) throw DamagedImage("cannot decode image data");
    }

  private:
    size_t row_bytes(size_t pixels) const { return (pixels * bits_ + 7) / 8; }

    uint64_t count_bytes() const {
        if (!png_.interlaced) return uint64_t{png_.height} * (1 + longest_);
        uint64_t size = 0;
        for (const Pass& pass : kPasses) {
            const uint32_t width = pass.width(png_.width), height = pass.height(png_.height);
            if (width > 0) size += uint64_t{height} * (1 + row_bytes(width));
        }
        return size;
    }

    bool unfilter_next(const uint8_t* above, uint8_t* to, size_t size) {
        const uint8_t* row = rows_.next(1 + size);
        return unfilter(row[0], row + 1, above, to, size, static_cast<int>(std::max<size_t>(bits_ / 8, 1)));
    }

    bool draw_rows() {
        const uint8_t* above = &lines_[longest_];  // zeros
        for (uint32_t y = 0; y < png_.height; ++y) {
            uint8_t* const pixels = canvas_.row(y);
            uint8_t* const line = plain_ ? pixels : &lines_[y % 2 * longest_];
            if (!unfilter_next(above, line, longest_)) return false;
            if (!plain_) convert_(line, pixels, png_.width, table_);
            canvas_.commit(y);
            above = line;
        }
        return true;
    }

    bool draw_passes() {
        const auto colours = static_cast<size_t>(canvas_.colours());
        const auto converted = std::make_unique_for_overwrite<uint8_t[]>(png_.width * colours);
        for (const Pass& pass : kPasses) {
            const uint32_t width = pass.width(png_.width), height = pass.height(png_.height);
            if (width == 0) continue;
            std::memset(&lines_[longest_], 0, longest_);
            for (uint32_t y = 0; y < height; ++y) {
                uint8_t* const line = &lines_[y % 2 * longest_];
                if (!unfilter_next(&lines_[(y + 1) % 2 * longest_], line, row_bytes(width))) return false;
                convert_(line, converted.get(), width, table_);
                const uint8_t* from = converted.get();
                uint8_t* to = canvas_.row(pass.row + y * pass.rows) + pass.column * colours;
                for (uint32_t x = 0; x < width; ++x, from += colours, to += pass.columns * colours) {
                    std::copy_n(from, colours, to);
                }
            }
        }
        return true;
    }

    const Png& png_;
    Canvas& canvas_;
    const size_t bits_, longest_;  // of a pixel; bytes of a row without its filter
    const bool plain_;             // the file has the samples of the canvas
    const PngConvert convert_;
    const PngTable table_;
    Rows rows_;
    std::unique_ptr<uint8_t[]> lines_;  // two rows as they are in the file
};

}  // namespace

void Png::decode(Canvas& canvas) const { Decoder(*this, canvas).run(); }

}  // namespace opserve::native
