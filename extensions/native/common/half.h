// float16 in software, to the bit as NumPy converts it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace opserve::native {

inline float half_to_float(uint16_t half) {
    const uint32_t sign = (half & 0x8000U) << 16, exponent = half & 0x7c00U, fraction = half & 0x3ffU;
    if (exponent == 0x7c00) return std::bit_cast<float>(sign | 0x7f800000U | fraction << 13);
    if (exponent == 0) {
        return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24F));
    }
    return std::bit_cast<float>(sign | (((half & 0x7fffU) << 13) + 0x38000000U));
}

// Not by way of float: the processor would change the bits of a signalling NaN.
inline double half_to_double(uint16_t half) {
    if ((half & 0x7c00U) != 0x7c00) return half_to_float(half);
    return std::bit_cast<double>((half & 0x8000ULL) << 48 | 0x7ffULL << 52 | (half & 0x3ffULL) << 42);
}

// Rounds to the nearest, ties to even; beyond the range to infinity.
inline uint16_t double_to_half(double number) {
    const uint64_t bits = std::bit_cast<uint64_t>(number), magnitude = bits & ~(uint64_t{1} << 63);
    const auto sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
    const auto with_sign = [&](uint64_t half) { return static_cast<uint16_t>(sign | half); };
    constexpr uint64_t infinity = uint64_t{0x7ff} << 52;
    if (magnitude > infinity) {
        const uint64_t payload = magnitude >> 42 & 0x3ff;
        return with_sign(0x7c00 | (payload == 0 ? 1 : payload));  // still not a number
    }
    if (magnitude >= std::bit_cast<uint64_t>(65520.0)) return with_sign(0x7c00);
    if (magnitude < std::bit_cast<uint64_t>(0x1p-14)) {
        return with_sign(static_cast<uint64_t>(std::nearbyint(std::bit_cast<double>(magnitude) * 0x1p24)));
    }
    const uint64_t rebased = magnitude - (uint64_t{1023 - 15} << 52);
    return with_sign((rebased + ((uint64_t{1} << 41) - 1) + (rebased >> 42 & 1)) >> 42);
}

}  // namespace opserve::native
