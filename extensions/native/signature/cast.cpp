#include "cast.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "../common/with_type.h"
#include "signature.h"

namespace opserve::native {
namespace {

template <typename T>
T load(const std::byte* from, size_t index) {
    T value;
    std::memcpy(&value, from + index * sizeof(T), sizeof(T));
    return value;
}

// Whether a float is an integer that a type holds.
template <typename To, typename From>
bool holds(From value) {
    // 2 to the number of digits, which every float type has (except float16, which is computed with as
    // float32).
    const From end = std::ldexp(From{1}, std::numeric_limits<To>::digits);
    const From begin = std::is_signed_v<To> ? -end : From{0};
    return value >= begin && value < end && std::trunc(value) == value;
}

template <typename From, typename To>
Cast cast_floats(const std::byte* from, To* to, size_t count) {
    bool beyond = false;
    for (size_t i = 0; i < count; ++i) {
        const auto value = number(load<From>(from, i));
        if constexpr (std::is_same_v<From, Half> && std::is_same_v<To, double>) {
            to[i] = half_to_double(load<From>(from, i).bits);
        } else {
            to[i] = rounded<To>(value);
        }
        beyond |= static_cast<int>(std::isinf(number(to[i]))) > static_cast<int>(std::isinf(value));
    }
    return beyond ? Cast::kOutOfRange : Cast::kDone;
}

template <typename From, typename To>
Cast cast_to_float(const std::byte* from, To* to, size_t count, bool exactly) {
    bool lost = false;
    for (size_t i = 0; i < count; ++i) {
        const From value = load<From>(from, i);
        to[i] = rounded<To>(value);
        const auto got = number(to[i]);
        lost |= std::isinf(got);
        if constexpr (std::numeric_limits<From>::digits > std::numeric_limits<decltype(got)>::digits) {
            if (exactly) lost |= !holds<From>(got) || static_cast<From>(got) != value;
        }
    }
    return lost ? Cast::kOutOfRange : Cast::kDone;
}

template <typename From, typename To>
Cast cast_to_integer(const std::byte* from, To* to, size_t count, bool typed) {
    bool lost = false, large = false, nan = false;
    for (size_t i = 0; i < count; ++i) {
        const auto value = number(load<From>(from, i));
        nan |= std::isnan(value);
        large |= std::abs(value) >= static_cast<decltype(value)>(kExactBelow);
        const bool held = holds<To>(value);
        lost |= !held;
        to[i] = held ? static_cast<To>(value) : To{0};
    }
    if (!typed && large && !nan) return Cast::kInexact;
    return lost ? Cast::kOutOfRange : Cast::kDone;
}

template <typename From, typename To>
Cast cast_integers(const std::byte* from, To* to, size_t count) {
    bool lost = false;
    for (size_t i = 0; i < count; ++i) {
        const From value = load<From>(from, i);
        lost |= !std::in_range<To>(value);
        to[i] = static_cast<To>(value);
    }
    return lost ? Cast::kOutOfRange : Cast::kDone;
}

template <typename T>
T swapped(T value) {
    if constexpr (sizeof(T) == 1) return value;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

// Copies a matrix of `rows` that lie next to each other in the source, into one whose columns do.
template <typename T>
void transpose(const std::byte* from, size_t from_stride, T* to, size_t to_stride, size_t rows,
               size_t columns) {
    constexpr size_t tile = 32;  // both sides of it fit into the first cache
    for (size_t row = 0; row < rows; row += tile) {
        const size_t row_end = std::min(rows, row + tile);
        for (size_t column = 0; column < columns; column += tile) {
            const size_t column_end = std::min(columns, column + tile);
            for (size_t i = row; i < row_end; ++i) {
                for (size_t j = column; j < column_end; ++j) {
                    to[i * to_stride + j] = load<T>(from, i + j * from_stride);
                }
            }
        }
    }
}

template <typename T>
void to_c_order(const Array& from, T* to) {
    const size_t rank = from.shape.size();  // at least 2
    const auto size = [&](size_t axis) { return static_cast<size_t>(from.shape[axis]); };
    const size_t rows = size(0), columns = size(rank - 1);
    const auto count = static_cast<size_t>(from.size());
    const size_t to_stride = count / rows, from_stride = count / columns;
    // The axes between the first and the last, counted through in C order.
    std::vector<size_t> at(rank, 0);
    const size_t planes = to_stride / columns;
    for (size_t plane = 0; plane < planes; ++plane) {
        size_t offset = 0, stride = rows;
        for (size_t axis = 1; axis + 1 < rank; ++axis) {
            offset += at[axis] * stride;
            stride *= size(axis);
        }
        transpose(from.data + offset * sizeof(T), from_stride, to + plane * columns, to_stride, rows,
                  columns);
        for (size_t axis = rank - 2; axis > 0 && ++at[axis] == size(axis); --axis) at[axis] = 0;
    }
}

template <typename T>
void rearrange(const Array& from, T* to) {
    const auto count = static_cast<size_t>(from.size());
    if (count == 0) return;
    if (is_c_order(from)) {
        std::memcpy(to, from.data, count * sizeof(T));
    } else {
        to_c_order(from, to);
    }
    if (from.swapped) std::transform(to, to + count, to, swapped<T>);
}

template <typename T>
bool all_finite_from(const T* numbers, size_t count, double minimum) {
    // A float is compared as one of its dtype, as NumPy does with a Python number; an integer as a float64.
    const auto least = number(rounded<std::conditional_t<kIsFloat<T>, T, double>>(minimum));
    using Compared = std::remove_const_t<decltype(least)>;
    bool kept = true;  // NaN passes neither comparison
    for (size_t i = 0; i < count; ++i) {
        const auto value = static_cast<Compared>(number(numbers[i]));
        kept &= (value >= least) & (value < std::numeric_limits<Compared>::infinity());
    }
    return kept;
}

}  // namespace

Cast cast(const Array& from, Array& to, bool typed) {
    const auto count = static_cast<size_t>(from.size());
    return with_type(from.dtype, [&](auto source) {
        return with_type(to.dtype, [&](auto target) {
            using From = decltype(source);
            using To = decltype(target);
            To* const out = to.as<To>();
            if constexpr (kIsFloat<From> && kIsFloat<To>) {
                return cast_floats<From>(from.data, out, count);
            } else if constexpr (kIsFloat<To>) {
                return cast_to_float<From>(from.data, out, count, typed);
            } else if constexpr (kIsFloat<From>) {
                return cast_to_integer<From>(from.data, out, count, typed);
            } else {
                return cast_integers<From>(from.data, out, count);
            }
        });
    });
}

bool is_c_order(const Array& array) {
    if (!array.fortran_order || array.size() == 0) return true;
    return std::count_if(array.shape.begin(), array.shape.end(), [](int64_t size) { return size != 1; }) <= 1;
}

Array rearranged(const Array& array) {
    Array made = Array::empty(array.dtype, array.shape);
    switch (item_size(array.dtype)) {
        case 1:
            rearrange(array, made.as<uint8_t>());
            break;
        case 2:
            rearrange(array, made.as<uint16_t>());
            break;
        case 4:
            rearrange(array, made.as<uint32_t>());
            break;
        default:
            rearrange(array, made.as<uint64_t>());
    }
    return made;
}

bool all_finite_from(const Array& array, double minimum) {
    return with_type(array.dtype, [&](auto type) {
        return all_finite_from(array.as<decltype(type)>(), static_cast<size_t>(array.size()), minimum);
    });
}

}  // namespace opserve::native
