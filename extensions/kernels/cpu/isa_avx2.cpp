#include <cstddef>
#include <cstdint>

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC 12 reports the intrinsics' own undefined vectors as our mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define OPSERVE_ISA_KERNELS kAvx2Kernels
#define OPSERVE_ISA_NAME "avx2"
#define OPSERVE_VECTOR_BYTES 32

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
