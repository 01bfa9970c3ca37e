#include "signature.h"

#include <cstdio>
#include <string>

#include "cast.h"

namespace opserve::native {
namespace {

// As Python prints a list.
std::string list(const Shape& shape) {
    std::string text = "[";
    for (const int64_t size : shape) {
        if (text.size() > 1) text += ", ";
        text += std::to_string(size);
    }
    return text + "]";
}

// As Python prints the dtype of an array.
std::string dtype_of(const Array& array) {
    if (!array.swapped || item_size(array.dtype) == 1) return std::string(name(array.dtype));
    return std::string(">") + kind(array.dtype) + std::to_string(item_size(array.dtype));
}

bool is_aligned(const Array& array) {
    return reinterpret_cast<uintptr_t>(array.data) % item_size(array.dtype) == 0;
}

}  // namespace

std::string TensorSpec::describe() const {
    std::string text(native::name(dtype));
    text += " [";
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        text += shape[i] < 0 ? "?" : std::to_string(shape[i]);
    }
    return text + "]";
}

bool TensorSpec::matches(const Shape& given) const {
    if (given.size() != shape.size()) return false;
    for (size_t i = 0; i < shape.size(); ++i) {
        if (shape[i] != given[i] && shape[i] != -1) return false;
    }
    return true;
}

RequestError TensorSpec::refusal(std::string_view reason) const {
    return RequestError("'" + name + "' must be " + describe() + ", " + std::string(reason), name);
}

RequestError TensorSpec::wrong_shape(const Shape& given) const { return refusal("got shape " + list(given)); }

RequestError TensorSpec::ragged() const {
    return RequestError("'" + name + "' must be " + describe() + "; its lists have different lengths", name);
}

RequestError TensorSpec::out_of_range(std::string_view why) const {
    const std::string holder = "'" + name + "' holds a number that " + std::string(native::name(dtype));
    return RequestError(holder + " cannot hold" + std::string(why), name);
}

RequestError TensorSpec::inexact() const {
    return out_of_range(" exactly: from 2**53 on, write whole numbers with all their digits");
}

Array convert(const Array& array, const TensorSpec& spec, bool typed) {
    if (!spec.matches(array.shape)) throw spec.wrong_shape(array.shape);
    if ((array.dtype == DType::kBool) != (spec.dtype == DType::kBool)) {
        throw spec.refusal("got " + dtype_of(array) + " values");
    }
    Array converted;
    if (array.swapped || !is_c_order(array)) {
        converted = rearranged(array);
    } else {
        converted = array;
        converted.fortran_order = false;
    }
    if (converted.dtype != spec.dtype) {
        Array source = std::move(converted);
        converted = Array::empty(spec.dtype, source.shape);
        switch (cast(source, converted, typed)) {
            case Cast::kDone:
                break;
            case Cast::kInexact:
                throw spec.inexact();
            case Cast::kOutOfRange:
                throw spec.out_of_range();
        }
    } else if (!is_aligned(converted)) {
        converted = converted.copy();
    }
    check_minimum(converted, spec);
    return converted;
}

void check_minimum(const Array& array, const TensorSpec& spec) {
    if (!spec.minimum || all_finite_from(array, *spec.minimum)) return;
    char minimum[32];
    std::snprintf(minimum, sizeof minimum, "%g", *spec.minimum);
    throw RequestError("'" + spec.name + "' must hold finite numbers of " + minimum + " or more", spec.name);
}

}  // namespace opserve::native
