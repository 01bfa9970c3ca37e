// Vectors of OPSERVE_VECTOR_BYTES, as the compilers' own vector types: the same source becomes SSE2, AVX2,
// AVX-512 or NEON. Included only by isa_*.cpp, inside an anonymous namespace.

#define OPSERVE_INLINE inline __attribute__((always_inline))
#define OPSERVE_LAMBDA_INLINE __attribute__((always_inline))

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef float type __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
};
template <>
struct VectorOf<double> {
    typedef double type __attribute__((vector_size(OPSERVE_VECTOR_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class Index>
struct UnsignedOf;
template <>
struct UnsignedOf<int32_t> {
    using type = uint32_t;
};
template <>
struct UnsignedOf<int64_t> {
    using type = uint64_t;
};

template <class T>
constexpr int64_t kLanes = OPSERVE_VECTOR_BYTES / sizeof(T);

constexpr int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
OPSERVE_INLINE void load(const T* from, Vector<T>& to) {
    __builtin_memcpy(&to, from, sizeof(to));
}

template <class T>
OPSERVE_INLINE void store(const Vector<T>& from, T* to) {
    __builtin_memcpy(to, &from, sizeof(from));
}

// The first `count` lanes of a vector, 0 <= count <= kLanes. The others are neither read nor written; loaded,
// they are 0.
#if OPSERVE_VECTOR_BYTES == 64
// A masked load or store costs as much as a whole one.
constexpr bool kMasks = true;

template <class T>
struct Mask {
    explicit Mask(int64_t count) : bits(static_cast<uint16_t>((1U << count) - 1)) {}
    uint16_t bits;
};

OPSERVE_INLINE void load_masked(const float* from, Mask<float> mask, Vector<float>& to) {
    to = (Vector<float>)_mm512_maskz_loadu_ps(mask.bits, from);
}
OPSERVE_INLINE void load_masked(const double* from, Mask<double> mask, Vector<double>& to) {
    to = (Vector<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask.bits), from);
}
OPSERVE_INLINE void store_masked(const Vector<float>& from, Mask<float> mask, float* to) {
    _mm512_mask_storeu_ps(to, mask.bits, (__m512)from);
}
OPSERVE_INLINE void store_masked(const Vector<double>& from, Mask<double> mask, double* to) {
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask.bits), (__m512d)from);
}
#elif OPSERVE_VECTOR_BYTES == 32
constexpr bool kMasks = false;

template <class T>
struct Mask {
    explicit Mask(int64_t count) {
        alignas(32) static constexpr int32_t table[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
        const int64_t words = count * static_cast<int64_t>(sizeof(T) / sizeof(int32_t));
        bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + 8 - words));
    }
    __m256i bits;
};

OPSERVE_INLINE void load_masked(const float* from, Mask<float> mask, Vector<float>& to) {
    to = (Vector<float>)_mm256_maskload_ps(from, mask.bits);
}
OPSERVE_INLINE void load_masked(const double* from, Mask<double> mask, Vector<double>& to) {
    to = (Vector<double>)_mm256_maskload_pd(from, mask.bits);
}
OPSERVE_INLINE void store_masked(const Vector<float>& from, Mask<float> mask, float* to) {
    _mm256_maskstore_ps(to, mask.bits, (__m256)from);
}
OPSERVE_INLINE void store_masked(const Vector<double>& from, Mask<double> mask, double* to) {
    _mm256_maskstore_pd(to, mask.bits, (__m256d)from);
}
#else
constexpr bool kMasks = false;

template <class T>
struct Mask {
    explicit Mask(int64_t count) : count(count) {}
    int64_t count;
};

template <class T>
OPSERVE_INLINE void load_masked(const T* from, Mask<T> mask, Vector<T>& to) {
    T lanes[kLanes<T>] = {};
    for (int64_t i = 0; i < mask.count; ++i) lanes[i] = from[i];
    load(lanes, to);
}
template <class T>
OPSERVE_INLINE void store_masked(const Vector<T>& from, Mask<T> mask, T* to) {
    T lanes[kLanes<T>];
    store<T>(from, lanes);
    for (int64_t i = 0; i < mask.count; ++i) to[i] = lanes[i];
}
#endif

template <class T>
OPSERVE_INLINE void load_some(const T* from, int64_t count, Vector<T>& to) {
    load_masked(from, Mask<T>(count), to);
}
template <class T>
OPSERVE_INLINE void store_some(const Vector<T>& from, int64_t count, T* to) {
    store_masked(from, Mask<T>(count), to);
}
