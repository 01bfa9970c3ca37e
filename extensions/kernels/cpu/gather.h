// What the compilers' vector types lack: rounding down, and fetching neighbours by index. Included only by
// isa_*.cpp, inside an anonymous namespace.

typedef int32_t IntVector __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
typedef float FloatVector __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
typedef double DoubleVector __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
// The result of comparing doubles: -1 where true, else 0.
typedef int64_t LongVector __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
constexpr int64_t kFloats = kLanes<float>, kDoubles = kLanes<double>;

OPSERVE_INLINE DoubleVector round_down(const DoubleVector& value) {
#if OPSERVE_VECTOR_BYTES == 64
    return (DoubleVector)_mm512_roundscale_pd((__m512d)value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif OPSERVE_VECTOR_BYTES == 32
    return (DoubleVector)_mm256_floor_pd((__m256d)value);
#else
    DoubleVector result;
    for (int64_t i = 0; i < kDoubles; ++i) result[i] = __builtin_floor(value[i]);
    return result;
#endif
}

// value = whole + fraction, 0 <= fraction <= 1.
OPSERVE_INLINE void split(const FloatVector& value, IntVector& whole, FloatVector& fraction) {
#if OPSERVE_VECTOR_BYTES == 64
    const __m512i down = _mm512_cvt_roundps_epi32((__m512)value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    whole = (IntVector)down;
    fraction = value - (FloatVector)_mm512_cvtepi32_ps(down);
#elif OPSERVE_VECTOR_BYTES == 32
    const __m256 floor = _mm256_floor_ps((__m256)value);
    whole = (IntVector)_mm256_cvttps_epi32(floor);
    fraction = value - (FloatVector)floor;
#else
    whole = __builtin_convertvector(value, IntVector);
    // A comparison is -1 where true.
    whole += value < __builtin_convertvector(whole, FloatVector);
    fraction = value - __builtin_convertvector(whole, FloatVector);
#endif
}

// The reciprocal of normal numbers; that of 1 is exactly 1.
OPSERVE_INLINE FloatVector reciprocal(const FloatVector& value) {
#if OPSERVE_VECTOR_BYTES == 64
    // A 512-bit division takes as long as sampling a pixel or two. A Newton step doubles the 14 bits.
    const FloatVector guess = (FloatVector)_mm512_rcp14_ps((__m512)value);
    return guess + guess * (1.0F - value * guess);
#else
    return 1.0F / value;
#endif
}

// Whether a comparison is true in all lanes.
OPSERVE_INLINE bool all(const IntVector& comparison) {
#if OPSERVE_VECTOR_BYTES == 64
    return _mm512_movepi32_mask((__m512i)comparison) == 0xffff;
#elif OPSERVE_VECTOR_BYTES == 32
    return _mm256_movemask_epi8((__m256i)comparison) == -1;
#else
    int32_t every = -1;
    for (int64_t i = 0; i < kFloats; ++i) every &= comparison[i];
    return every != 0;
#endif
}

// Results of these sizes are stored past the caches: such a store does not first fetch what it replaces.
// Larger ones get new memory from the system each time, which has just been zeroed through the caches.
constexpr int64_t kStreamFrom = int64_t{4} << 20, kStreamUpTo = int64_t{32} << 20;

// Stores past the caches, to an address aligned to a vector; finish_streams makes such stores visible to
// other threads.
#if OPSERVE_VECTOR_BYTES == 64
constexpr bool kCanStream = true;
OPSERVE_INLINE void stream(const FloatVector& from, float* to) { _mm512_stream_ps(to, (__m512)from); }
OPSERVE_INLINE void finish_streams() { _mm_sfence(); }
#elif OPSERVE_VECTOR_BYTES == 32
constexpr bool kCanStream = true;
OPSERVE_INLINE void stream(const FloatVector& from, float* to) { _mm256_stream_ps(to, (__m256)from); }
OPSERVE_INLINE void finish_streams() { _mm_sfence(); }
#else
constexpr bool kCanStream = false;
OPSERVE_INLINE void stream(const FloatVector& from, float* to) { store<float>(from, to); }
OPSERVE_INLINE void finish_streams() {}
#endif

// Fetches base[offset] and base[offset + 1] together, lane by lane.
OPSERVE_INLINE void gather_pairs(const float* base, const IntVector& offset, FloatVector& first,
                                 FloatVector& second) {
#if OPSERVE_VECTOR_BYTES == 64
    const __m512i at = (__m512i)offset;
    const __m512 low = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_castsi512_si256(at), base, 4));
    const __m512 high = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_extracti64x4_epi64(at, 1), base, 4));
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    first = (FloatVector)_mm512_permutex2var_ps(low, even, high);
    second = (FloatVector)_mm512_permutex2var_ps(low, odd, high);
#elif OPSERVE_VECTOR_BYTES == 32
    // In the order that the shuffles below, which stay within halves, restore.
    const __m256i at =
        _mm256_permutevar8x32_epi32((__m256i)offset, _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7));
    const __m256 low = _mm256_castpd_ps(
        _mm256_i32gather_pd(reinterpret_cast<const double*>(base), _mm256_castsi256_si128(at), 4));
    const __m256 high = _mm256_castpd_ps(
        _mm256_i32gather_pd(reinterpret_cast<const double*>(base), _mm256_extracti128_si256(at, 1), 4));
    first = (FloatVector)_mm256_shuffle_ps(low, high, 0x88);
    second = (FloatVector)_mm256_shuffle_ps(low, high, 0xdd);
#else
    for (int64_t i = 0; i < kFloats; ++i) {
        first[i] = base[offset[i]];
        second[i] = base[offset[i] + 1];
    }
#endif
}
