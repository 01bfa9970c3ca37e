#include "png_samples.h"

#include "image_file.h"

namespace opserve::native {
namespace {

template <int kDepth, int kColours>
void convert_indices(const uint8_t* from, uint8_t* to, size_t pixels, const PngTable& table) {
    for (size_t x = 0; x < pixels; ++x) {
        size_t index = from[x * kDepth / 8];
        if constexpr (kDepth < 8) index = index >> (8 - kDepth - x * kDepth % 8) & ((1 << kDepth) - 1);
        for (size_t i = 0; i < kColours; ++i) to[kColours * x + i] = table[kColours * index + i];
    }
}

// Of 16 bits, the upper 8 count.
template <size_t kSampleBytes, size_t kSamples, size_t kColours>
void convert_samples(const uint8_t* from, uint8_t* to, size_t pixels, const PngTable&) {
    for (size_t x = 0; x < pixels; ++x, from += kSampleBytes * kSamples, to += kColours) {
        if constexpr (kSamples >= 3 && kColours == 1) {
            *to = luma(from[0], from[kSampleBytes], from[2 * kSampleBytes]);
        } else {
            for (size_t i = 0; i < kColours; ++i) to[i] = from[kSamples >= 3 ? i * kSampleBytes : 0];
        }
    }
}

template <int kColours>
PngConvert choose(const Png& png) {
    if (png.depth < 8 || png.colour == 3) {
        switch (png.depth) {
            case 1:
                return convert_indices<1, kColours>;
            case 2:
                return convert_indices<2, kColours>;
            case 4:
                return convert_indices<4, kColours>;
            default:
                return convert_indices<8, kColours>;
        }
    }
    const bool wide = png.depth == 16;
    switch (png.samples) {
        case 1:
            return wide ? convert_samples<2, 1, kColours> : convert_samples<1, 1, kColours>;
        case 2:
            return wide ? convert_samples<2, 2, kColours> : convert_samples<1, 2, kColours>;
        case 3:
            return wide ? convert_samples<2, 3, kColours> : convert_samples<1, 3, kColours>;
        default:
            return wide ? convert_samples<2, 4, kColours> : convert_samples<1, 4, kColours>;
    }
}

}  // namespace

PngTable make_table(const Png& png, int colours) {
    PngTable table{};
    const auto set = [&](size_t index, uint8_t red, uint8_t green, uint8_t blue) {
        if (colours == 1) {
            table[index] = luma(red, green, blue);
        } else {
            table[3 * index] = red;
            table[3 * index + 1] = green;
            table[3 * index + 2] = blue;
        }
    };
    if (png.colour == 3) {
        for (size_t i = 0; i < png.palette.size() / 3; ++i) {  // indices beyond the palette are black
            set(i, std::to_integer<uint8_t>(png.palette[3 * i]),
                std::to_integer<uint8_t>(png.palette[3 * i + 1]),
                std::to_integer<uint8_t>(png.palette[3 * i + 2]));
        }
    } else if (png.depth < 8) {
        const unsigned levels = 1u << png.depth;
        for (unsigned i = 0; i < levels; ++i) {
            const auto grey = static_cast<uint8_t>(i * (255 / (levels - 1)));
            set(i, grey, grey, grey);
        }
    }
    return table;
}

PngConvert choose_convert(const Png& png, int colours) {
    return colours == 1 ? choose<1>(png) : choose<3>(png);
}

}  // namespace opserve::native
