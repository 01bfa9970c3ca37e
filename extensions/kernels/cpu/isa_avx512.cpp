#include <cstddef>
#include <cstdint>

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC 12 reports the intrinsics' own undefined vectors as our mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define OPSERVE_ISA_KERNELS kAvx512Kernels
#define OPSERVE_ISA_NAME "avx512"
#define OPSERVE_VECTOR_BYTES 64

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

#include "isa.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
