// What all fuzzers share: a case that depends on its seed and number only, its report, buffers of exact
// sizes.
#pragma once

#include <errno.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>

namespace fuzz {

// What a report needs to be reproducible.
struct Case {
    uint64_t seed = 1;
    int64_t number = 0;
    const char* op = "";
    const char* detail = "";
};
inline Case current_case;

inline int64_t failures = 0;

inline void print_case() {
    std::fprintf(stderr, "%s: in case %lld of seed %llu, %s%s\n", program_invocation_short_name,
                 static_cast<long long>(current_case.number),
                 static_cast<unsigned long long>(current_case.seed), current_case.op, current_case.detail);
}

inline void fail(const std::string& what) {
    if (++failures > 10) return;
    print_case();
    std::fprintf(stderr, "  %s\n", what.c_str());
}

// SplitMix64 (Steele, Lea and Flood, 2014): well mixed from any seed, so that cases can be numbered.
class Random {
  public:
    Random(uint64_t seed, uint64_t number) : state_(seed * 0x9e3779b97f4a7c15ULL ^ number << 20) {}

    uint64_t bits() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15ULL;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
        return z ^ z >> 31;
    }
    // In [0, limit).
    int64_t below(int64_t limit) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(limit)); }
    bool one_in(int64_t n) { return below(n) == 0; }
    double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-52 - 1.0; }
    template <class T>
    T pick(std::initializer_list<T> values) {
        return values.begin()[below(static_cast<int64_t>(values.size()))];
    }

    // A side of a matrix: small, often around the widths of vectors and tiles, rarely large.
    int64_t side() {
        if (one_in(8)) return 0;
        if (one_in(12)) return below(300);
        if (one_in(4)) return pick<int64_t>({4, 8, 12, 16, 32, 48, 64}) + below(3) - 1;
        return 1 + below(12);
    }
    int64_t huge() {
        constexpr int64_t most = std::numeric_limits<int64_t>::max();
        return pick<int64_t>({most, most - 1, most / 2, most / 4, most / 8, most / 64, int64_t{1} << 32,
                              (int64_t{1} << 31) - 8, (int64_t{1} << 31) - 9, int64_t{1} << 40}) -
               below(3);
    }
    // A size that an empty tensor may have in addition to its 0.
    int64_t far() { return int64_t{1} << pick<int64_t>({31, 32, 40, 48}); }
    double number() {
        if (!one_in(16)) return uniform();
        return pick({0.0, -0.0, 1e-310, 1e-40, 1e30, -1e300, 1.7e308, std::nan(""), HUGE_VAL, -HUGE_VAL});
    }

  private:
    uint64_t state_;
};

// Exactly `bytes` on the heap, no more and no less.
class Heap {
  public:
    explicit Heap(int64_t bytes, size_t alignment = alignof(std::max_align_t)) : bytes_(bytes) {
        if (posix_memalign(&pointer_, alignment, static_cast<size_t>(bytes)) != 0) std::abort();
    }
    Heap(Heap&& other) noexcept : bytes_(other.bytes_), pointer_(std::exchange(other.pointer_, nullptr)) {}
    Heap& operator=(Heap&&) = delete;
    ~Heap() { std::free(pointer_); }
    void fill(int byte) { std::memset(pointer_, byte, static_cast<size_t>(bytes_)); }
    void* get() const { return pointer_; }

  private:
    int64_t bytes_;
    void* pointer_ = nullptr;
};

}  // namespace fuzz
