#include "png.h"

#include <isa-l.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "image_file.h"
#include "images.h"

namespace opserve::native {
namespace {

using Bytes = std::span<const std::byte>;

// libpng's bound on either side.
constexpr uint32_t kMaxSide = 1'000'000;
// Encoders split pixels into chunks of 8 KiB or more.
constexpr int kMaxChunks = 1 << 16;
constexpr size_t kHeader = 13;

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
    png.samples = count_samples(png.depth, png.colour);
    if (png.samples == 0) {
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

}  // namespace opserve::native
