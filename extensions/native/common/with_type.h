// From a DType to the C++ type of its elements.
#pragma once

#include <type_traits>

#include "array.h"
#include "half.h"

namespace opserve::native {

// An element of a float16 array.
struct Half {
    uint16_t bits;
};

template <typename T>
inline constexpr bool kIsFloat = std::is_floating_point_v<T> || std::is_same_v<T, Half>;

// Returns visit(T()) with the type of the elements; bool is uint8_t.
template <typename Visit>
auto with_type(DType dtype, Visit&& visit) {
    switch (dtype) {
        case DType::kBool:
        case DType::kUInt8:
            return visit(uint8_t());
        case DType::kInt8:
            return visit(int8_t());
        case DType::kUInt16:
            return visit(uint16_t());
        case DType::kInt16:
            return visit(int16_t());
        case DType::kUInt32:
            return visit(uint32_t());
        case DType::kInt32:
            return visit(int32_t());
        case DType::kUInt64:
            return visit(uint64_t());
        case DType::kInt64:
            return visit(int64_t());
        case DType::kFloat16:
            return visit(Half());
        case DType::kFloat32:
            return visit(float());
        case DType::kFloat64:
            break;
    }
    return visit(double());
}

// The element as a number to compute with.
template <typename T>
auto number(T value) {
    if constexpr (std::is_same_v<T, Half>) {
        return half_to_float(value.bits);
    } else {
        return value;
    }
}

// The nearest element of a float type; infinity beyond its range.
template <typename To, typename From>
To rounded(From value) {
    if constexpr (std::is_same_v<To, Half>) {
        return {double_to_half(static_cast<double>(value))};
    } else {
        return static_cast<To>(value);
    }
}

}  // namespace opserve::native
