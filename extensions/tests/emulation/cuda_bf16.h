// Replaces the CUDA header: the part of bfloat16 that the kernels use.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value) {
    return emulated_bits<float>(static_cast<uint32_t>(value.bits) << 16);
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    const uint32_t bits = emulated_bits<uint32_t>(value);
    if (value != value) return {0x7fff};
    // To nearest, ties to even.
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline __nv_bfloat16 __double2bfloat16(double value) {
    return __float2bfloat16_rn(static_cast<float>(value));
}
