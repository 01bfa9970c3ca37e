#include "png.h"

#include <isa-l.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "image_file.h"
#include "images.h"
#include "inflate.h"
#include "unfilter.h"

namespace opserve::native {
namespace {

using Bytes = std::span<const std::byte>;

// libpng's bound on either side.
constexpr uint32_t kMaxSide = 1'000'000;
// Encoders split pixels into chunks of 8 KiB or more.
constexpr int kMaxChunks = 1 << 16;
// Bytes that are unpacked at a time.
constexpr size_t kBlock = 0xFFFF;
constexpr size_t kHeader = 13;

// First column and row of the seven passes of an interlaced image, and the steps from there.
struct Pass {
    uint32_t column, row, columns, rows;

    uint32_t width(uint32_t of) const { return of > column ? (of - column + columns - 1) / columns : 0; }
    uint32_t height(uint32_t of) const { return of > row ? (of - row + rows - 1) / rows : 0; }
};
constexpr Pass kPasses[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                            {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

constexpr uint32_t tag(const char (&name)[5]) {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(name[i]);
    return value;
}
constexpr uint32_t kIhdr = tag("IHDR"), kPlte = tag("PLTE"), kIdat = tag("IDAT"), kExif = tag("eXIf"),
                   kIend = tag("IEND");

uint32_t read_u32(const std::byte* at) {
    uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}

// Samples of a pixel by colour type; 0 for types that do not exist.
int count_samples(int depth, int colour) {
    const bool eight = depth == 8 || depth == 16, less = depth == 1 || depth == 2 || depth == 4;
    switch (colour) {
        case 0:
            return eight || less ? 1 : 0;
        case 3:
            return depth == 8 || less ? 1 : 0;
        case 2:
            return eight ? 3 : 0;
        case 4:
            return eight ? 2 : 0;
        case 6:
            return eight ? 4 : 0;
        default:
            return 0;
    }
}

// The chunks, as far as they go; checksums are compared where a wrong byte would change the image. The pixels
// have their own, inside the stream.
class Chunks {
  public:
    explicit Chunks(Bytes content) : content_(content) {}

    // Reads the next chunk; false if there is none.
    bool next() {
        if (count_++ == kMaxChunks) {
            throw ImageTooComplex("it has more than " + std::to_string(kMaxChunks) + " chunks");
        }
        if (at_ > content_.size() || content_.size() - at_ < 8) return false;
        const uint64_t length = read_u32(&content_[at_]), left = content_.size() - at_ - 8;
        kind = read_u32(&content_[at_ + 4]);
        body = content_.subspan(at_ + 8, std::min(length, left));
        if (kind != kIdat) {  // the rest of pixels that are cut off may be all that is needed
            if (length + 4 > left) return false;
            if (kind == kIhdr || kind == kPlte) check(length);
        }
        at_ += length + 12;
        return true;
    }

    uint32_t kind = 0;
    Bytes body;

  private:
    void check(size_t length) const {
        const auto* from = reinterpret_cast<const unsigned char*>(&content_[at_ + 4]);
        if (crc32_gzip_refl(0, const_cast<unsigned char*>(from), length + 4) ==
            read_u32(&content_[at_ + 8 + length])) {
            return;
        }
        throw DamagedImage(std::string("its ") + (kind == kIhdr ? "IHDR" : "PLTE") +
                           " does not match its checksum");
    }

    Bytes content_;
    uint64_t at_ = kPngMagic.size();
    int count_ = 0;
};

void read_header(Bytes body, Png& png) {
    png.width = read_u32(&body[0]);
    png.height = read_u32(&body[4]);
    png.depth = std::to_integer<int>(body[8]);
    png.colour = std::to_integer<int>(body[9]);
    const int compression = std::to_integer<int>(body[10]), filtering = std::to_integer<int>(body[11]);
    const int interlaced = std::to_integer<int>(body[12]);
    if (count_samples(png.depth, png.colour) == 0) {
        throw DamagedImage("no PNG has " + std::to_string(png.depth) + " bits per sample with colour type " +
                           std::to_string(png.colour));
    }
    if (compression != 0 || filtering != 0 || interlaced > 1) {
        throw DamagedImage("its header asks for a compression, filter or interlacing that does not exist");
    }
    if (png.width == 0 || png.height == 0) throw DamagedImage("it has no pixels");
    if (std::max(png.width, png.height) > kMaxSide) {
        throw ImageTooComplex("it has " + std::to_string(png.width) + " x " + std::to_string(png.height) +
                              " pixels; at most " + std::to_string(kMaxSide) + " a side are accepted");
    }
    png.interlaced = interlaced == 1;
}

// -- from the samples of the file to those of the canvas
// ---------------------------------------------------------------

// What each index, or each grey of less than 8 bits, becomes.
using Table = std::array<uint8_t, 3 * 256>;

Table make_table(const Png& png, int colours) {
    Table table{};
    const auto set = [&](size_t index, uint8_t red, uint8_t green, uint8_t blue) {
        if (colours == 1) {
            table[index] = luma(red, green, blue);
        } else {
            table[3 * index] = red;
            table[3 * index + 1] = green;
            table[3 * index + 2] = blue;
        }
    };
    if (png.colour == 3) {
        for (size_t i = 0; i < png.palette.size() / 3; ++i) {  // indices beyond the palette are black
            set(i, std::to_integer<uint8_t>(png.palette[3 * i]),
                std::to_integer<uint8_t>(png.palette[3 * i + 1]),
                std::to_integer<uint8_t>(png.palette[3 * i + 2]));
        }
    } else if (png.depth < 8) {
        const unsigned levels = 1u << png.depth;
        for (unsigned i = 0; i < levels; ++i) {
            const auto grey = static_cast<uint8_t>(i * (255 / (levels - 1)));
            set(i, grey, grey, grey);
        }
    }
    return table;
}

using Convert = void (*)(const uint8_t* from, uint8_t* to, size_t pixels, const Table& table);

template <int kDepth, int kColours>
void convert_indices(const uint8_t* from, uint8_t* to, size_t pixels, const Table& table) {
    for (size_t x = 0; x < pixels; ++x) {
        size_t index = from[x * kDepth / 8];
        if constexpr (kDepth < 8) index = index >> (8 - kDepth - x * kDepth % 8) & ((1 << kDepth) - 1);
        for (size_t i = 0; i < kColours; ++i) to[kColours * x + i] = table[kColours * index + i];
    }
}

// Of 16 bits, the upper 8 count.
template <size_t kSampleBytes, size_t kSamples, size_t kColours>
void convert_samples(const uint8_t* from, uint8_t* to, size_t pixels, const Table&) {
    for (size_t x = 0; x < pixels; ++x, from += kSampleBytes * kSamples, to += kColours) {
        if constexpr (kSamples >= 3 && kColours == 1) {
            *to = luma(from[0], from[kSampleBytes], from[2 * kSampleBytes]);
        } else {
            for (size_t i = 0; i < kColours; ++i) to[i] = from[kSamples >= 3 ? i * kSampleBytes : 0];
        }
    }
}

template <int kColours>
Convert choose_convert(const Png& png, int samples) {
    if (png.depth < 8 || png.colour == 3) {
        switch (png.depth) {
            case 1:
                return convert_indices<1, kColours>;
            case 2:
                return convert_indices<2, kColours>;
            case 4:
                return convert_indices<4, kColours>;
            default:
                return convert_indices<8, kColours>;
        }
    }
    const bool wide = png.depth == 16;
    switch (samples) {
        case 1:
            return wide ? convert_samples<2, 1, kColours> : convert_samples<1, 1, kColours>;
        case 2:
            return wide ? convert_samples<2, 2, kColours> : convert_samples<1, 2, kColours>;
        case 3:
            return wide ? convert_samples<2, 3, kColours> : convert_samples<1, 3, kColours>;
        default:
            return wide ? convert_samples<2, 4, kColours> : convert_samples<1, 4, kColours>;
    }
}

// -- rows
// --------------------------------------------------------------------------------------------------------------

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
        if (read({reinterpret_cast<std::byte*>(&buffer_[end_]), size}) < size) {
            throw DamagedImage("it has fewer pixels than its header says");
        }
        end_ += size;
        left_ -= size;
    }

    size_t read(std::span<std::byte> out) {
        try {
            return stream_.read(out);
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
          samples_(count_samples(png.depth, png.colour)),
          bits_(static_cast<size_t>(samples_ * png.depth)),
          longest_(row_bytes(png.width)),
          plain_(png.depth == 8 && png.colour != 3 && samples_ == canvas.colours()),
          convert_(canvas.colours() == 1 ? choose_convert<1>(png, samples_)
                                         : choose_convert<3>(png, samples_)),
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
    const int samples_;
    const size_t bits_, longest_;  // of a pixel; bytes of a row without its filter
    const bool plain_;             // the file has the samples of the canvas
    const Convert convert_;
    const Table table_;
    Rows rows_;
    std::unique_ptr<uint8_t[]> lines_;  // two rows as they are in the file
};

}  // namespace

Png parse_png(Bytes content) {
    Png png;
    bool complete = false;
    Chunks chunks(content);
    while (chunks.next()) {
        const Bytes body = chunks.body;
        if (png.width == 0) {
            if (chunks.kind != kIhdr || body.size() != kHeader) {
                throw DamagedImage("it does not start with its header");
            }
            read_header(body, png);
        } else if (chunks.kind == kIdat) {
            if (!complete) png.data.push_back(body);
            continue;
        } else if (chunks.kind == kPlte && png.data.empty()) {
            png.palette = body;
        } else if (chunks.kind == kExif && png.orientation == 1) {
            png.orientation = read_orientation(body);
        } else if (chunks.kind == kIend) {
            break;
        }
        complete = !png.data.empty();
    }
    if (png.data.empty()) throw DamagedImage("it is cut off before its pixels");
    if (png.colour != 3) {
        png.palette = {};
    } else if (png.palette.empty() || png.palette.size() % 3 != 0 || png.palette.size() > 768) {
        throw DamagedImage("its palette is missing or damaged");
    }
    return png;
}

void Png::decode(Canvas& canvas) const { Decoder(*this, canvas).run(); }

}  // namespace opserve::native
