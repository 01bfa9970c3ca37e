// Numbers of a parsed text as an array: in one pass where they are regular and all fit, as almost always;
// otherwise step by step as handlers/signature.py takes them, which says what is wrong.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "../common/with_type.h"
#include "json.h"

namespace opserve::native {
namespace {

double as_double(JsonTape tape, uint32_t at) {
    switch (tape.tag(at)) {
        case JsonTape::kInteger:
            return static_cast<double>(tape.integer(at));
        case JsonTape::kUnsigned:
            return static_cast<double>(tape.unsigned_integer(at));
        default:
            return tape.number(at);
    }
}

// Stores an integer, or a decimal number that certainly equals one; false for any other, or for one that T
// does not hold.
template <typename T>
bool store_integer(JsonTape tape, uint32_t at, T* out) {
    const auto store = [out](auto value) {
        *out = static_cast<T>(value);
        return std::in_range<T>(value);
    };
    const auto tag = tape.tag(at);
    if (tag == JsonTape::kInteger) [[likely]] {
        return store(tape.integer(at));
    }
    if (tag == JsonTape::kUnsigned) return store(tape.unsigned_integer(at));
    if (tag != JsonTape::kDouble) return false;
    const double value = tape.number(at);
    // NaN does not pass.
    if (!(std::abs(value) < static_cast<double>(kExactBelow)) || std::trunc(value) != value) return false;
    return store(static_cast<int64_t>(value));
}

// Stores a number; false for what is not one, or for one that T does not simply hold.
template <typename T>
bool store(JsonTape tape, uint32_t at, T* out) {
    if constexpr (kIsFloat<T>) {
        const auto tag = tape.tag(at);
        if (tag == JsonTape::kDouble) [[likely]] {
            *out = rounded<T>(tape.number(at));
        } else if (tag == JsonTape::kInteger || tag == JsonTape::kUnsigned) {
            *out = rounded<T>(as_double(tape, at));
        } else {
            return false;
        }
        return std::isfinite(number(*out));
    } else {
        return store_integer(tape, at, out);
    }
}

// Fills an array of a shape that the first elements have; false if others are nested differently, or a number
// is not simply held.
template <typename T>
bool fill(JsonTape tape, uint32_t array, const Shape& shape, size_t depth, T*& out) {
    const auto size = static_cast<uint32_t>(shape[depth]);
    if (!tape.is_array(array) || tape.count(array) != size) return false;
    const uint32_t end = tape.end(array);
    uint32_t at = array + 1;
    if (depth + 1 < shape.size()) {
        for (; at != end; at = tape.after(at)) {
            if (!fill(tape, at, shape, depth + 1, out)) return false;
        }
        return true;
    }
    if (end - at != 2 * size) return false;  // not only numbers
    for (; at != end; at += 2, ++out) {
        if (!store(tape, at, out)) return false;
    }
    return true;
}

// The array for regularly nested numbers; none if there is something else.
std::optional<Array> convert_regular(const JsonTape& tape, uint32_t root, const TensorSpec& spec) {
    Shape shape;
    shape.reserve(spec.shape.size());
    // No shape is believed of which the tape does not have as many numbers, of two words each.
    const uint64_t words = tape.is_array(root) ? tape.end(root) - root : 0;
    uint64_t count = 1;
    uint32_t at = root;
    for (size_t depth = 0; depth < spec.shape.size(); ++depth) {
        if (!tape.is_array(at)) return std::nullopt;
        const uint32_t size = tape.count(at);
        count *= size;
        if (count > words / 2 || (count == 0 && depth + 1 < spec.shape.size())) return std::nullopt;
        shape.push_back(size);
        ++at;
    }
    if (!spec.matches(shape)) return std::nullopt;
    Array array = Array::empty(spec.dtype, std::move(shape));
    const bool filled = with_type(spec.dtype, [&](auto type) {
        auto* out = array.as<decltype(type)>();
        return fill(tape, root, array.shape, 0, out);
    });
    if (!filled) return std::nullopt;
    return array;
}

// The contents of the innermost lists, one after the other, and the shape.
struct Leaves {
    std::vector<uint32_t> places;
    Shape shape;
};

Leaves find_leaves(const JsonTape& tape, uint32_t root, const TensorSpec& spec) {
    Leaves leaves{{root}, {}};
    std::vector<uint32_t> level;
    while (!leaves.places.empty() && tape.is_array(leaves.places[0])) {
        const uint32_t size = tape.count(leaves.places[0]);
        for (const uint32_t place : leaves.places) {
            if (!tape.is_array(place) || tape.count(place) != size) throw spec.ragged();
        }
        if (leaves.shape.size() == kMaxDimensions) {
            throw spec.refusal("got lists that are nested more than " + std::to_string(kMaxDimensions) +
                               " deep");
        }
        leaves.shape.push_back(size);
        level.clear();
        for (const uint32_t place : leaves.places) {
            for (uint32_t at = place + 1, end = tape.end(place); at != end; at = tape.after(at))
                level.push_back(at);
        }
        std::swap(level, leaves.places);
    }
    return leaves;
}

// The kinds of Python objects that values are.
enum Kinds : unsigned { kBools = 1, kInts = 2, kFloats = 4, kTexts = 8, kLists = 16, kOthers = 32 };
constexpr unsigned kNumbers = kInts | kFloats;

unsigned kinds_of(const JsonTape& tape, const std::vector<uint32_t>& places) {
    unsigned kinds = 0;
    for (const uint32_t place : places) {
        switch (tape.tag(place)) {
            case JsonTape::kTrue:
            case JsonTape::kFalse:
                kinds |= kBools;
                break;
            case JsonTape::kInteger:
            case JsonTape::kUnsigned:
            case JsonTape::kBeyond:
                kinds |= kInts;
                break;
            case JsonTape::kDouble:
                kinds |= kFloats;
                break;
            case JsonTape::kString:
                kinds |= kTexts;
                break;
            case JsonTape::kArray:
                kinds |= kLists;
                break;
            default:
                kinds |= kOthers;
        }
    }
    return kinds;
}

RequestError not_numbers(unsigned kinds, const TensorSpec& spec) {
    if (kinds & kLists) return spec.ragged();
    if ((kinds & ~(kNumbers | kBools)) == 0)
        return spec.refusal("got a mixture of numbers with true or false");
    const std::string found = kinds & kTexts ? "text" : "null, an object or a mixture";
    return spec.refusal("got " + found + " where numbers are expected");
}

// The refusal of numbers where true and false are expected, which names the dtype that NumPy reads them as.
RequestError not_booleans(const JsonTape& tape, const std::vector<uint32_t>& places, unsigned kinds,
                          const TensorSpec& spec) {
    bool beyond = false, larger = false, negative = false;
    for (const uint32_t place : places) {
        const auto tag = tape.tag(place);
        beyond |= tag == JsonTape::kBeyond;
        larger |= tag == JsonTape::kUnsigned;
        negative |= tag == JsonTape::kInteger && tape.integer(place) < 0;
    }
    if (beyond || (kinds == kInts && larger && negative)) return spec.out_of_range();
    const std::string_view dtype = kinds != kInts ? "float64" : larger ? "uint64" : "int64";
    return spec.refusal("got " + std::string(dtype) + " values");
}

// Each number is read as a float64, then rounded.
template <typename T>
void to_floats(const JsonTape& tape, const std::vector<uint32_t>& places, const TensorSpec& spec, T* out) {
    for (const uint32_t place : places) {
        if (tape.tag(place) == JsonTape::kBeyond) throw spec.out_of_range();
        const double value = as_double(tape, place);
        *out = rounded<T>(value);
        if (std::isinf(number(*out)) && !std::isinf(value)) throw spec.out_of_range();
        ++out;
    }
}

// Throws RequestError for a decimal number that is not certainly an integer. Which of several is named
// depends, as there, on whether all are decimal.
void check_wholes(const JsonTape& tape, const std::vector<uint32_t>& places, unsigned kinds,
                  const TensorSpec& spec) {
    bool large = false, nan = false, fraction = false;
    for (const uint32_t place : places) {
        if (tape.tag(place) != JsonTape::kDouble) continue;
        const double value = tape.number(place);
        const bool is_large = std::abs(value) >= static_cast<double>(kExactBelow);
        const bool is_whole = std::isfinite(value) && std::trunc(value) == value;
        if (kinds == kNumbers && !is_whole) throw spec.out_of_range();
        if (kinds == kNumbers && is_large) throw spec.inexact();
        large |= is_large;
        nan |= std::isnan(value);
        fraction |= !is_whole;
    }
    if (large && !nan) throw spec.inexact();
    if (fraction) throw spec.out_of_range();
}

Array convert_leaves(const JsonTape& tape, const Leaves& leaves, const TensorSpec& spec) {
    const auto& places = leaves.places;
    const unsigned kinds = kinds_of(tape, places);
    if ((kinds & ~kNumbers) != 0 && kinds != kBools) throw not_numbers(kinds, spec);
    if (!spec.matches(leaves.shape)) throw spec.wrong_shape(leaves.shape);
    Array array = Array::empty(spec.dtype, leaves.shape);
    if (places.empty()) return array;
    if (spec.dtype == DType::kBool) {
        if (kinds != kBools) throw not_booleans(tape, places, kinds, spec);
        std::transform(places.begin(), places.end(), array.as<uint8_t>(),
                       [&](uint32_t place) { return tape.tag(place) == JsonTape::kTrue; });
        return array;
    }
    if (kinds == kBools) throw spec.refusal("got bool values");
    if (kind(spec.dtype) != 'f') check_wholes(tape, places, kinds, spec);
    with_type(spec.dtype, [&](auto type) {
        auto* out = array.as<decltype(type)>();
        if constexpr (kIsFloat<decltype(type)>) {
            to_floats(tape, places, spec, out);
        } else {
            for (const uint32_t place : places) {
                if (!store_integer(tape, place, out++)) throw spec.out_of_range();
            }
        }
    });
    return array;
}

}  // namespace

Array convert(const JsonValue& value, const TensorSpec& spec) {
    std::optional<Array> array;
    if (spec.dtype != DType::kBool && !spec.shape.empty())
        array = convert_regular(value.tape(), value.at(), spec);
    if (!array) array = convert_leaves(value.tape(), find_leaves(value.tape(), value.at(), spec), spec);
    check_minimum(*array, spec);
    return std::move(*array);
}

}  // namespace opserve::native
