// Vectors of a width chosen by the caller: after a single 512-bit instruction a processor takes longer to
// recover its speed than a call on a few elements takes.
template <class T, int64_t kBytes>
struct WideOf;
template <int64_t kBytes>
struct WideOf<float, kBytes> {
    typedef float type __attribute__((vector_size(kBytes)));
};
template <int64_t kBytes>
struct WideOf<double, kBytes> {
    typedef double type __attribute__((vector_size(kBytes)));
};

constexpr int64_t kNarrowBytes = OPSERVE_VECTOR_BYTES < 32 ? OPSERVE_VECTOR_BYTES : 32;
constexpr int64_t kFewBytes = 16384;

// Every element takes the same path, wherever ranges are split and whatever the width. kStream: stores past
// the caches.
template <class T, int64_t kBytes, bool kStream>
OPSERVE_INLINE void add_scaled(int64_t n, T alpha, const T* x, const T* y, T* z) {
    using Wide = typename WideOf<T, kBytes>::type;
    constexpr int64_t lanes = kBytes / sizeof(T);
    const auto sum = [=](int64_t i, size_t bytes) __attribute__((always_inline)) {
        Wide vx{}, vy{};
        __builtin_memcpy(&vx, x + i, bytes);
        __builtin_memcpy(&vy, y + i, bytes);
        return alpha * vx + vy;
    };
    const auto store_wide = [=](const Wide& from, int64_t i) __attribute__((always_inline)) {
        if constexpr (kStream) {
            stream((FloatVector)from, reinterpret_cast<float*>(z + i));
        } else {
            __builtin_memcpy(z + i, &from, kBytes);
        }
    };
    int64_t i = 0;
    if constexpr (kStream) {
        const int64_t past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(z) % kBytes / sizeof(T));
        if (past > 0) {
            i = min_of(lanes - past, n);
            const Wide a = sum(0, static_cast<size_t>(i) * sizeof(T));
            __builtin_memcpy(z, &a, static_cast<size_t>(i) * sizeof(T));
        }
    }
    // Stores last: a load would wait for an earlier store to the same place in another page.
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
        const Wide a = sum(i, kBytes), b = sum(i + lanes, kBytes), c = sum(i + 2 * lanes, kBytes),
                   d = sum(i + 3 * lanes, kBytes);
        store_wide(a, i);
        store_wide(b, i + lanes);
        store_wide(c, i + 2 * lanes);
        store_wide(d, i + 3 * lanes);
    }
    while (i < n) {
        const int64_t count = min_of(lanes, n - i);
        const Wide a = count == lanes ? sum(i, kBytes) : sum(i, static_cast<size_t>(count) * sizeof(T));
        __builtin_memcpy(z + i, &a, static_cast<size_t>(count) * sizeof(T));
        i += count;
    }
    if constexpr (kStream) finish_streams();
}

template <class T>
void scaled_add(int64_t numel, T alpha, const T* x, const T* y, T* z, const ParallelFor& parallel_for) {
    constexpr int64_t grain = 32768;
    const int64_t bytes = numel * static_cast<int64_t>(sizeof(T));
    const bool few = bytes <= kFewBytes;
    const bool past_caches = kCanStream && bytes >= kStreamFrom && bytes < kStreamUpTo;
    parallel_for(numel, grain, [=](int64_t begin, int64_t end) {
        if (few) {
            add_scaled<T, kNarrowBytes, false>(end - begin, alpha, x + begin, y + begin, z + begin);
        } else if (past_caches) {
            add_scaled<T, OPSERVE_VECTOR_BYTES, kCanStream>(end - begin, alpha, x + begin, y + begin,
                                                            z + begin);
        } else {
            add_scaled<T, OPSERVE_VECTOR_BYTES, false>(end - begin, alpha, x + begin, y + begin, z + begin);
        }
    });
}

template <class T>
void scaled_add_backward(int64_t numel, T alpha, const T* grad, T* grad_x, T* grad_y,
                         const ParallelFor& parallel_for) {
    constexpr int64_t grain = 32768;
    parallel_for(numel, grain, [=](int64_t begin, int64_t end) {
        T* const to_x = grad_x;
        T* const to_y = grad_y;
        const T* const from = grad;
        const T factor = alpha;
        for (int64_t i = begin; i < end; ++i) {
            const T g = from[i];
            to_x[i] = factor * g;
            to_y[i] = g;
        }
    });
}
