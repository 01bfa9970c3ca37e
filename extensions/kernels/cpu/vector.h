// Vectors of OPSERVE_VECTOR_BYTES, by the compilers' own vector types: the same source becomes SSE2, AVX2,
// AVX-512 or NEON. Included only by isa_*.cpp, inside an anonymous namespace.

#define OPSERVE_INLINE inline __attribute__((always_inline))

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

// The first `count` lanes, count < kLanes.
template <class T>
OPSERVE_INLINE void load_some(const T* from, int64_t count, Vector<T>& to) {
    to = Vector<T>{};
    __builtin_memcpy(&to, from, static_cast<size_t>(count) * sizeof(T));
}

template <class T>
OPSERVE_INLINE void store_some(const Vector<T>& from, int64_t count, T* to) {
    __builtin_memcpy(to, &from, static_cast<size_t>(count) * sizeof(T));
}
