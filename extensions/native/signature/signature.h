// The name, dtype and shape of one tensor of a request or a response, and the conversion of arrays to it: the
// rules of handlers/signature.py.
#pragma once

#include <optional>
#include <string>

#include "../common/array.h"
#include "../common/errors.h"

namespace opserve::native {

// A JSON number with a fraction or an exponent is read as a float64, in which only smaller whole numbers are
// exact.
inline constexpr int64_t kExactBelow = int64_t{1} << 53;
inline constexpr size_t kMaxDimensions = 32;
inline constexpr size_t kMaxName = 128;

struct TensorSpec {
    std::string name;
    DType dtype = DType::kFloat32;
    Shape shape;  // -1 is any size, including 0
    bool optional = false;
    std::optional<double> minimum;

    // Dtype and shape for messages: "float32 [4, 2]"; "?" is any size.
    std::string describe() const;
    bool matches(const Shape& shape) const;

    // The refusals of handlers/signature.py, for every reader of values.
    RequestError refusal(std::string_view reason) const;  // "'x' must be float32 [4], " + reason
    RequestError wrong_shape(const Shape& given) const;
    RequestError ragged() const;
    RequestError out_of_range(std::string_view why = {}) const;
    RequestError inexact() const;
};

using Signature = std::vector<TensorSpec>;

// Returns an array converted to `spec`: of its dtype and shape, in C order, native, aligned and writable; the
// array itself if it is all that already. `typed`: the sender chose the dtype of the numbers, so that each is
// meant exactly. Throws RequestError: another shape, a value the dtype cannot hold, a mixture of bool and
// numbers, a number below the minimum.
Array convert(const Array& array, const TensorSpec& spec, bool typed);

// Throws RequestError if a number of a converted array is below spec.minimum, infinite or NaN.
void check_minimum(const Array& array, const TensorSpec& spec);

}  // namespace opserve::native
