// Replaces the CUDA header: the part of float16 that the kernels use.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

struct __half {
    uint16_t bits;
};

inline float __half2float(__half value) { return static_cast<float>(emulated_bits<_Float16>(value.bits)); }
inline __half __float2half_rn(float value) { return {emulated_bits<uint16_t>(static_cast<_Float16>(value))}; }
inline __half __double2half(double value) { return {emulated_bits<uint16_t>(static_cast<_Float16>(value))}; }
