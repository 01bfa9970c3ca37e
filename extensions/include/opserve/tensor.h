// What the checks need to know about a tensor, whichever runtime owns it.
#pragma once

#include <cstdint>

namespace opserve {

enum class DType : int8_t { kFloat16, kBFloat16, kFloat32, kFloat64, kInt32, kInt64, kOther };
enum class DeviceType : int8_t { kCpu, kCuda, kOther };

constexpr int64_t element_size(DType dtype) {
    switch (dtype) {
        case DType::kFloat16:
        case DType::kBFloat16:
            return 2;
        case DType::kFloat32:
        case DType::kInt32:
            return 4;
        case DType::kFloat64:
        case DType::kInt64:
            return 8;
        case DType::kOther:
            break;
    }
    return 0;
}

// Shape and type of one argument; `sizes` is borrowed from the runtime and has `dim` elements.
struct TensorArg {
    DType dtype;
    DeviceType device_type;
    int32_t device_index;
    int64_t dim;
    const int64_t* sizes;
};

// Sums and products of sizes from outside; false if the result does not fit.
[[nodiscard]] inline bool checked_multiply(int64_t a, int64_t b, int64_t* product) {
    return !__builtin_mul_overflow(a, b, product);
}
[[nodiscard]] inline bool checked_add(int64_t a, int64_t b, int64_t* sum) {
    return !__builtin_add_overflow(a, b, sum);
}

}  // namespace opserve
