#include "unfilter.h"

#include <cstring>

namespace opserve::native {
namespace {

// The bytes of a pixel, each in a lane of its own.
template <size_t kStep>
struct Pixel {
    using Bytes [[gnu::vector_size(8)]] = uint8_t;
    using Lanes [[gnu::vector_size(16)]] = int16_t;

    static Lanes load(const uint8_t* from) {
        Bytes bytes{};
        std::memcpy(&bytes, from, kStep);
        return __builtin_convertvector(bytes, Lanes);
    }
    static void store(uint8_t* to, Lanes lanes) {
        const Bytes bytes = __builtin_convertvector(lanes, Bytes);
        std::memcpy(to, &bytes, kStep);
    }
};

template <>
struct Pixel<1> {
    using Lanes = int;

    static Lanes load(const uint8_t* from) { return *from; }
    static void store(uint8_t* to, Lanes lane) { *to = static_cast<uint8_t>(lane); }
};

struct Sub {
    template <typename Lanes>
    static Lanes predict(Lanes left, Lanes, Lanes) {
        return left;
    }
};

struct Average {
    template <typename Lanes>
    static Lanes predict(Lanes left, Lanes above, Lanes) {
        return (left + above) >> 1;
    }
};

struct Paeth {
    // Whichever of the three is closest to left + above - corner, without branches and with few steps from
    // `left`.
    template <typename Lanes>
    static Lanes predict(Lanes left, Lanes above, Lanes corner) {
        const Lanes bound = 3 * corner - (left + above);
        const Lanes low = left < above ? left : above, high = left < above ? above : left;
        const Lanes either = high <= bound ? low : corner;
        return bound <= low ? high : either;
    }
};

template <typename Filter, size_t kStep>
void unfilter_pixels(const uint8_t* from, const uint8_t* above, uint8_t* to, size_t size) {
    using Each = Pixel<kStep>;
    typename Each::Lanes left{}, corner{};
    for (size_t i = 0; i < size; i += kStep) {
        const auto over = Each::load(above + i);
        left = (Each::load(from + i) + Filter::predict(left, over, corner)) & 255;
        corner = over;
        Each::store(to + i, left);
    }
}

template <typename Filter>
void unfilter_row(const uint8_t* from, const uint8_t* above, uint8_t* to, size_t size, int step) {
    switch (step) {
        case 1:
            return unfilter_pixels<Filter, 1>(from, above, to, size);
        case 2:
            return unfilter_pixels<Filter, 2>(from, above, to, size);
        case 3:
            return unfilter_pixels<Filter, 3>(from, above, to, size);
        case 4:
            return unfilter_pixels<Filter, 4>(from, above, to, size);
        case 6:
            return unfilter_pixels<Filter, 6>(from, above, to, size);
        default:
            return unfilter_pixels<Filter, 8>(from, above, to, size);
    }
}

void unfilter_up(const uint8_t* __restrict from, const uint8_t* __restrict above, uint8_t* __restrict to,
                 size_t size) {
    for (size_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(from[i] + above[i]);
}

}  // namespace

bool unfilter(uint8_t filter, const uint8_t* from, const uint8_t* above, uint8_t* to, size_t size, int step) {
    switch (filter) {
        case 0:
            std::memcpy(to, from, size);
            return true;
        case 1:
            unfilter_row<Sub>(from, above, to, size, step);
            return true;
        case 2:
            unfilter_up(from, above, to, size);
            return true;
        case 3:
            unfilter_row<Average>(from, above, to, size, step);
            return true;
        case 4:
            unfilter_row<Paeth>(from, above, to, size, step);
            return true;
        default:
            return false;
    }
}

}  // namespace opserve::native
