// What the cases of warp_perspective consist of, forward and backward: its arguments and their faults,
// pixels, and matrices.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "fuzz.h"
#include "opserve/warp_perspective.h"

namespace fuzz {

struct WarpArguments {
    WarpArguments(Random& random, DType dtype, DType matrix_dtype)
        : image{dtype, {}}, matrix{matrix_dtype, {3, 3}} {
        const int64_t dim = 2 + random.below(3);
        for (int64_t leading = dim - 2; leading > 0; --leading) image.sizes.push_back(random.below(4));
        for (int axis = 0; axis < 2; ++axis) image.sizes.push_back(side(random));
        if (dim == 4 && random.one_in(2)) matrix.sizes = {image.sizes[0], 3, 3};
        for (int axis = 0; axis < 2; ++axis) size.push_back(side(random));
    }

    // The side of an image or a result: mostly small, sometimes more than one run of pixels.
    static int64_t side(Random& random) {
        if (random.one_in(6)) return random.below(4);
        if (random.one_in(10)) return 120 + random.below(20);
        return 1 + random.below(24);
    }

    // Sometimes sides that are negative or far too large, or another number of them.
    void spoil_size(Random& random) {
        if (random.one_in(10))
            size[random.below(2)] = random.one_in(2) ? -1 - random.below(3) : random.huge();
        if (random.one_in(30)) size.resize(static_cast<size_t>(random.below(4)), 1);
    }

    // No pixels, in many channels or rows, or a result without any.
    void empty(Random& random) {
        matrix.sizes = {3, 3};
        switch (random.below(3)) {
            case 0:
                image.sizes = {random.far(), 0, random.below(3), random.below(3)};
                break;
            case 1:
                image.sizes = {random.far(), 0, 4};
                size = {0, random.below(9)};
                break;
            default:
                image.sizes = {random.below(3), random.below(3)};
                size = random.one_in(2) ? std::vector<int64_t>{(int64_t{1} << 31) - 9, 0}
                                        : std::vector<int64_t>{0, (int64_t{1} << 31) - 9};
                break;
        }
    }

    // Of an image of two dimensions or more.
    std::vector<int64_t> out_sizes() const {
        std::vector<int64_t> out(image.sizes.begin(), image.sizes.end() - 2);
        out.insert(out.end(), size.begin(), size.end());
        return out;
    }

    bool valid() const {
        constexpr int64_t max_side = (int64_t{1} << 31) - 8;
        const auto in_range = [&](int64_t length) { return length >= 0 && length < max_side; };
        return image.dim() >= 2 && image.dim() <= 4 && is_floating(image.dtype) &&
               (matrix.dtype == DType::kFloat32 || matrix.dtype == DType::kFloat64) &&
               same_device(image, matrix) && size.size() == 2 && in_range(size[0]) && in_range(size[1]) &&
               image.sizes[image.dim() - 2] < max_side && image.sizes[image.dim() - 1] < max_side &&
               (matrix.is({3, 3}) || (image.dim() == 4 && matrix.is({image.sizes[0], 3, 3}))) &&
               fits(out_sizes(), image.dtype);
    }

    Argument image, matrix;
    std::vector<int64_t> size;
};

// Rows, channels and images may be apart, or be one and the same.
template <class T>
struct Image {
    Image(Random& random, const opserve::WarpPerspectiveSizes& s)
        : stride_h(random_stride(random, s.w)),
          // The other sizes of an empty image may be so large that their product overflows.
          stride_c(random_stride(random, is_empty(s) ? 0 : s.h * stride_h)),
          stride_n(random_stride(random, is_empty(s) ? 0 : s.c * stride_c)),
          elements(numbers<T>(
              random,
              is_empty(s) ? 0 : (s.n - 1) * stride_n + (s.c - 1) * stride_c + (s.h - 1) * stride_h + s.w)) {}

    static bool is_empty(const opserve::WarpPerspectiveSizes& s) {
        return s.n == 0 || s.c == 0 || s.h == 0 || s.w == 0;
    }

    template <class Params>
    void give_to(Params& p) {
        p.image = elements.data();
        p.image_stride_n = stride_n;
        p.image_stride_c = stride_c;
        p.image_stride_h = stride_h;
    }

    int64_t stride_h, stride_c, stride_n;
    Elements<T> elements;
};

// What is known about a random matrix in advance.
enum class Known { kGood, kBad, kNeither };

template <class M>
Known random_matrix(Random& random, M* m) {
    // The identity, moved and bent a little: far from singular.
    for (int i = 0; i < 9; ++i) m[i] = static_cast<M>((i % 4 == 0 ? 1.0 : 0.0) + 0.1 * random.uniform());
    m[2] = static_cast<M>(random.uniform() * 20);
    m[5] = static_cast<M>(random.uniform() * 20);
    m[6] = static_cast<M>(random.uniform() * 0.01);
    m[7] = static_cast<M>(random.uniform() * 0.01);
    if (!random.one_in(3)) return Known::kGood;
    const int64_t at = random.below(9);
    switch (random.below(6)) {
        case 0:
            m[at] = static_cast<M>(random.pick({std::nan(""), HUGE_VAL, -HUGE_VAL}));
            return Known::kBad;
        case 1: {
            // Two equal rows.
            const int64_t row = random.below(3), other = (row + 1 + random.below(2)) % 3;
            for (int i = 0; i < 3; ++i) m[row * 3 + i] = m[other * 3 + i];
            return Known::kBad;
        }
        case 2:
            for (int i = 0; i < 9; ++i) m[i] = M(0);
            return Known::kBad;
        case 3: {
            // A far scale, even one whose powers overflow: the same map.
            const M scale = static_cast<M>(sizeof(M) == 4 ? random.pick({1e-30, 1e30, -1e36})
                                                          : random.pick({1e-250, 1e250, -1e300}));
            for (int i = 0; i < 9; ++i) m[i] *= scale;
            return Known::kGood;
        }
        case 4:
            // Magnitudes all over the place: whether it counts as singular or not, nothing must be accessed
            // out of bounds.
            for (int i = 0; i < 9; ++i) {
                m[i] = static_cast<M>(random.uniform() *
                                      std::pow(10.0, static_cast<double>(random.below(30)) - 15.0));
            }
            return Known::kNeither;
        default:
            m[at] = static_cast<M>(random.uniform() * 1e9);
            return Known::kNeither;
    }
}

// What is known about several matrices together.
template <class M>
Known random_matrices(Random& random, M* m, int64_t count) {
    Known known = Known::kGood;
    for (int64_t i = 0; i < count; ++i) {
        const Known one = random_matrix(random, m + i * 9);
        if (one == Known::kBad) known = Known::kBad;
        if (one == Known::kNeither && known == Known::kGood) known = Known::kNeither;
    }
    return known;
}

}  // namespace fuzz
