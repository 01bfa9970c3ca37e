#include "jpeg.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "image_file.h"
#include "jpeg_decoder.h"

namespace opserve::native {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint8_t kProgressive = 0xC2, kSoi = 0xD8, kEoi = 0xD9, kSos = 0xDA, kApp0 = 0xE0, kApp1 = 0xE1,
                  kApp14 = 0xEE, kCom = 0xFE;

constexpr uint8_t kAll = 0xFF;  // more bits than a coefficient has

// A photograph has tens of segments, some ten of them scans.
constexpr int kMaxSegments = 1 << 14;
constexpr int kMaxScans = 500;
// Samples that the scans of an image pass over, all together: a scan of a few bytes passes over as many as
// one of megabytes. A progressive photograph of 50 million pixels takes 0.4 to 0.7 billion, or 1.2 billion in
// CMYK.
constexpr uint64_t kMaxSamples = 1'500'000'000;

// Huffman codes, quantization, restart interval.
bool is_table(uint8_t marker) { return marker == 0xC4 || marker == 0xDB || marker == 0xDD; }
// Baseline, extended and progressive, all with Huffman coding; nobody writes arithmetic coding, lossless or
// hierarchical frames, and they take longer.
bool is_frame(uint8_t marker) { return marker >= 0xC0 && marker <= 0xC2; }
bool is_other_frame(uint8_t marker) { return marker == 0xC3 || (marker >= 0xC5 && marker <= 0xCF); }
bool is_restart(uint8_t marker) { return marker >= 0xD0 && marker <= 0xD7; }
bool has_no_length(uint8_t marker) { return marker == 0x01 || is_restart(marker); }

bool starts_with(Bytes body, const char* text, size_t length) {
    return body.size() >= length && std::memcmp(body.data(), text, length) == 0;
}

// Whether this segment tells the decoder what the components are.
bool defines_colours(uint8_t marker, Bytes body) {
    return (marker == kApp0 && starts_with(body, "JFIF", 5)) ||
           (marker == kApp14 && starts_with(body, "Adobe", 5));
}

struct Component {
    uint8_t name;
    unsigned across, down;  // sampling factors
    uint64_t blocks;        // of 64 samples each
    // The lower bits of each coefficient that are still to come.
    std::array<uint8_t, 64> missing;
};

struct Frame {
    uint32_t width, height;
    bool progressive;
    std::vector<Component> components;

    Component* find(uint8_t name) {
        for (Component& each : components) {
            if (each.name == name) return &each;
        }
        return nullptr;
    }
};

class Parser {
  public:
    explicit Parser(Bytes content) : content_(content) {}

    Jpeg parse() {
        jpeg_.pieces.push_back(content_.first(2));
        for (int segments = 0; read_segment(); ++segments) {
            if (segments == kMaxSegments - 1) {
                throw ImageTooComplex("it has more than " + std::to_string(kMaxSegments) + " segments");
            }
        }
        if (!frame_ || scans_ == 0) throw DamagedImage("it is cut off before its pixels");
        // A decoder would make up what they hold, each version in its own way.
        for (const Component& each : frame_->components) {
            const bool complete =
                std::all_of(each.missing.begin(), each.missing.end(), [](uint8_t bits) { return bits == 0; });
            if (!complete) throw DamagedImage("some of its scans are missing");
        }
        jpeg_.width = frame_->width;
        jpeg_.height = frame_->height;
        jpeg_.components = static_cast<int>(frame_->components.size());
        return std::move(jpeg_);
    }

  private:
    uint8_t byte(size_t at) const { return std::to_integer<uint8_t>(content_[at]); }

    // Returns where the next marker is from `at` on; the end if there is none.
    size_t find_marker(size_t at, bool in_scan) const {
        while (at + 1 < content_.size()) {
            const void* found = std::memchr(&content_[at], 0xFF, content_.size() - 1 - at);
            if (found == nullptr) break;
            at = static_cast<size_t>(static_cast<const std::byte*>(found) - content_.data());
            const uint8_t next = byte(at + 1);
            if (next != 0 && next != 0xFF && !(in_scan && is_restart(next))) return at;
            ++at;
        }
        return content_.size();
    }

    // False at the end; if that is too early, the decoder says whether it has enough.
    bool read_segment() {
        const size_t begin = find_marker(at_, false);
        if (begin == content_.size()) return false;
        const uint8_t marker = byte(begin + 1);
        at_ = begin + 2;
        if (marker == kEoi) {
            keep(begin, at_);
            return false;
        }
        if (has_no_length(marker)) return true;
        size_t length = 0;
        for (size_t i = at_; i < std::min(at_ + 2, content_.size()); ++i) length = length << 8 | byte(i);
        if (marker < 0xC0 || (marker >= 0xF0 && marker < kCom) || marker == kSoi || length < 2) {
            char text[8];
            std::snprintf(text, sizeof text, "%#x", marker);
            throw DamagedImage(std::string("it holds the unexpected marker ") + text);
        }
        if (length > content_.size() - at_) return false;
        const Bytes body = content_.subspan(at_ + 2, length - 2);
        at_ += length;
        if (is_frame(marker)) {
            if (frame_) throw DamagedImage("it has two frames");
            read_frame(body, marker == kProgressive);
        } else if (is_other_frame(marker)) {
            throw DamagedImage(
                "it is arithmetic coded, lossless or hierarchical; send a baseline or progressive JPEG");
        } else if (marker == kSos) {
            read_scan(body);
            at_ = find_marker(at_, true);
        } else if (marker == kApp1 && !seen_exif_ && starts_with(body, "Exif\0", 6)) {
            seen_exif_ = true;
            jpeg_.orientation = read_orientation(body);
            return true;
        } else if (!is_table(marker) && !defines_colours(marker, body)) {
            return true;
        }
        keep(begin, at_);
        return true;
    }

    void keep(size_t begin, size_t end) {
        Bytes& last = jpeg_.pieces.back();
        if (last.data() + last.size() == &content_[begin]) {
            last = {last.data(), last.size() + end - begin};
        } else {
            jpeg_.pieces.push_back(content_.subspan(begin, end - begin));
        }
    }

    void read_frame(Bytes body, bool progressive) {
        const auto number = [&](size_t at) { return std::to_integer<unsigned>(body[at]); };
        if (body.size() < 6 || body.size() != 6 + 3 * number(5))
            throw DamagedImage("its frame header is damaged");
        if (number(0) != 8) {
            throw DamagedImage("it has " + std::to_string(number(0)) +
                               " bits per sample; send a JPEG with 8");
        }
        Frame& frame = frame_.emplace();
        frame.progressive = progressive;
        frame.height = number(1) << 8 | number(2);
        frame.width = number(3) << 8 | number(4);
        if (frame.width == 0 || frame.height == 0) throw DamagedImage("its header does not give its size");
        const unsigned count = number(5);
        bool distinct = true, valid = true;
        unsigned across = 0, down = 0;
        for (size_t at = 6; at < body.size(); at += 3) {
            Component each{static_cast<uint8_t>(number(at)), number(at + 1) >> 4, number(at + 1) & 15, 0, {}};
            each.missing.fill(kAll);
            valid = valid && each.across >= 1 && each.across <= 4 && each.down >= 1 && each.down <= 4;
            distinct = distinct && frame.find(each.name) == nullptr;
            across = std::max(across, each.across);
            down = std::max(down, each.down);
            frame.components.push_back(each);
        }
        if (!distinct || !(count == 1 || count == 3 || count == 4)) {
            throw DamagedImage("it has " + std::to_string(count) +
                               " components; send a JPEG with 1, 3 or 4, numbered differently");
        }
        if (!valid) throw DamagedImage("its sampling factors are invalid");
        // Rows and columns are padded to whole blocks of the largest factors.
        const auto units = [](uint32_t size, unsigned factor) {
            return uint64_t{(size + 8 * factor - 1) / (8 * factor)};
        };
        const uint64_t in_all = units(frame.width, across) * units(frame.height, down);
        for (Component& each : frame.components) each.blocks = in_all * each.across * each.down;
    }

    void read_scan(Bytes body) {
        if (!frame_) throw DamagedImage("its pixels come before its size");
        ++scans_;
        if (body.empty() || body.size() != 4 + 2 * std::to_integer<size_t>(body[0])) {
            throw DamagedImage("the header of a scan is damaged");
        }
        const auto number = [&](size_t from_end) {
            return std::to_integer<uint8_t>(body[body.size() - from_end]);
        };
        size_t first = 0, last = 63;
        uint8_t known = 0, left = 0;
        if (frame_->progressive) {
            first = number(3);
            last = std::min<size_t>(number(2), 63);
            known = number(1) >> 4;
            left = number(1) & 15;
        }
        std::array<bool, 256> noted{};
        for (size_t at = 1; at + 3 < body.size(); at += 2) {
            const auto name = std::to_integer<uint8_t>(body[at]);
            Component* component = frame_->find(name);
            if (component == nullptr) continue;
            jpeg_.samples += 64 * component->blocks;
            if (std::exchange(noted[name], true)) continue;
            // A scan has all bits of some coefficients or, after the upper ones, some of their lower bits.
            for (size_t i = first; i <= last; ++i) {
                uint8_t& missing = component->missing[i];
                missing = known == 0 || known == missing ? left : kAll;
            }
        }
        if (scans_ > kMaxScans)
            throw ImageTooComplex("it has more than " + std::to_string(kMaxScans) + " scans");
    }

    Bytes content_;
    size_t at_ = 2;
    Jpeg jpeg_;
    std::optional<Frame> frame_;
    int scans_ = 0;
    bool seen_exif_ = false;
};

}  // namespace

Jpeg parse_jpeg(Bytes content) { return Parser(content).parse(); }

void Jpeg::decode(Canvas& canvas) const {
    if (samples > kMaxSamples) {
        throw ImageTooComplex("its " + std::to_string(width) + " x " + std::to_string(height) +
                              " pixels are coded in too many scans");
    }
    if (pieces.size() == 1) return decode_jpeg(pieces[0], components, canvas);
    std::vector<std::byte> joined;
    size_t size = 0;
    for (const Bytes piece : pieces) size += piece.size();
    joined.reserve(size);
    for (const Bytes piece : pieces) joined.insert(joined.end(), piece.begin(), piece.end());
    decode_jpeg(joined, components, canvas);
}

}  // namespace opserve::native
