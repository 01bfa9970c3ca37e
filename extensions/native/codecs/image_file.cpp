#include "image_file.h"

#include <cstring>
#include <optional>

namespace opserve::native {
namespace {

constexpr uint16_t kOrientation = 0x0112;
constexpr uint16_t kShort = 3, kLong = 4;
constexpr size_t kEntry = 12;

// A TIFF structure in either byte order. Reading past its end gives nothing.
class Tiff {
  public:
    Tiff(std::span<const std::byte> data, bool little) : data_(data), little_(little) {}

    std::optional<uint32_t> number(uint64_t at, size_t bytes) const {
        if (at > data_.size() || data_.size() - at < bytes) return std::nullopt;
        uint32_t value = 0;
        for (size_t i = 0; i < bytes; ++i) {
            const auto byte = std::to_integer<uint32_t>(data_[at + (little_ ? bytes - 1 - i : i)]);
            value = value << 8 | byte;
        }
        return value;
    }

  private:
    std::span<const std::byte> data_;
    bool little_;
};

bool starts_with(std::span<const std::byte> data, const char* text, size_t length) {
    return data.size() >= length && std::memcmp(data.data(), text, length) == 0;
}

}  // namespace

int read_orientation(std::span<const std::byte> exif) {
    if (starts_with(exif, "Exif\0", 6)) exif = exif.subspan(6);
    const bool little = starts_with(exif, "II*", 4);
    if (!little && !starts_with(exif, "MM\0*", 4)) return 1;
    const Tiff tiff(exif, little);
    const auto directory = tiff.number(4, 4);
    if (!directory) return 1;
    const auto count = tiff.number(*directory, 2);
    if (!count) return 1;
    for (uint64_t i = 0; i < *count; ++i) {
        const uint64_t entry = uint64_t{*directory} + 2 + kEntry * i;
        const auto tag = tiff.number(entry, 2), kind = tiff.number(entry + 2, 2);
        if (!tag || !kind) return 1;
        if (*tag != kOrientation) continue;
        if (*kind != kShort && *kind != kLong) return 1;
        const auto value = tiff.number(entry + 8, *kind == kShort ? 2 : 4);
        return value && *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
    }
    return 1;
}

}  // namespace opserve::native
