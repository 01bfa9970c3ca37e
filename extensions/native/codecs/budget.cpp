#include "budget.h"

#include <algorithm>
#include <string>

namespace opserve::native {
namespace {

// Holds every sum and product of the sizes that a request may state.
using Wide = __int128;

std::string to_text(Wide number) {
    std::string digits;
    const bool negative = number < 0;
    for (; number != 0; number /= 10)
        digits += static_cast<char>('0' + static_cast<int>(negative ? -(number % 10) : number % 10));
    if (digits.empty()) digits = "0";
    if (negative) digits += '-';
    std::reverse(digits.begin(), digits.end());
    return digits;
}

std::string over_bound_message(std::string_view reason, Wide bound) {
    std::string message(reason);
    return message.append("; at most ").append(to_text(bound)).append(" are accepted");
}

}  // namespace

RequestError over_bound(std::string_view reason, int64_t bound, std::optional<std::string_view> field) {
    return RequestError(over_bound_message(reason, bound), field, 413);
}

void Budget::take_unpacked(uint64_t count, std::optional<std::string_view> field) {
    const Wide left = Wide{unpacked_} - Wide{count};
    if (left < 0) {
        const std::string size = to_text(limits_.max_bytes - left);
        throw over_bound("the request unpacks to " + size + " bytes or more", limits_.max_bytes, field);
    }
    unpacked_ = static_cast<int64_t>(left);
}

void Budget::take_bytes(uint64_t count, std::optional<std::string_view> field) {
    const Wide left = Wide{bytes_} - Wide{count};
    if (left < 0) {
        const std::string size = to_text(limits_.max_bytes - left);
        throw over_bound("the inputs take " + size + " bytes or more in this model's dtypes",
                         limits_.max_bytes, field);
    }
    bytes_ = static_cast<int64_t>(left);
}

void Budget::take_pixels(uint64_t width, uint64_t height, std::string_view field) {
    // Sizes of an image have at most 32 bits each.
    const Wide left = Wide{pixels_} - Wide{width} * Wide{height};
    if (left < 0) {
        std::string reason = "'" + std::string(field) + "' is an image of " + to_text(width) + " x " +
                             to_text(height) + " pixels";
        const Wide others = Wide{limits_.max_image_pixels} - pixels_;
        if (others != 0) reason += ", after " + to_text(others) + " of other images";
        throw over_bound(reason, limits_.max_image_pixels, field);
    }
    pixels_ = static_cast<int64_t>(left);
}

}  // namespace opserve::native
