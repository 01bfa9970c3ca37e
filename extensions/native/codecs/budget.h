// How much one request may use, over all its inputs: handlers/codecs/budget.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "../common/errors.h"

namespace opserve::native {

// The bounds of one request, from the configuration.
struct Limits {
    int64_t max_image_pixels = 50'000'000;
    int64_t max_bytes = int64_t{1} << 28;  // `max_npz_bytes` of the configuration
    int64_t max_json_bytes = int64_t{1} << 26;
    int64_t max_response_bytes = int64_t{63} << 20;
};

// The 413 of a request that exceeds a bound.
RequestError over_bound(std::string_view reason, int64_t bound, std::optional<std::string_view> field);

// What is left of one request's bounds; anything that would exceed them is refused with 413 before it is
// made.
class Budget {
  public:
    explicit Budget(const Limits& limits)
        : limits_(limits),
          bytes_(limits.max_bytes),
          unpacked_(limits.max_bytes),
          pixels_(limits.max_image_pixels) {}

    const Limits& limits() const { return limits_; }
    void take_unpacked(uint64_t count, std::optional<std::string_view> field = std::nullopt);
    void take_bytes(uint64_t count, std::optional<std::string_view> field);
    void take_pixels(uint64_t width, uint64_t height, std::string_view field);

  private:
    const Limits& limits_;
    int64_t bytes_, unpacked_, pixels_;
};

}  // namespace opserve::native
