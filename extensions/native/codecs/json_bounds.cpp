#include "json_bounds.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "datatypes.h"
#include "request.h"

namespace opserve::native {
namespace {

// simdjson counts the elements of an array in 24 bits, and reports 2^24 - 1 for any more.
constexpr size_t kMaxValues = (1 << 24) - 2;
constexpr size_t kMaxArrays = 1 << 22;
constexpr size_t kMaxObjectValues = 1 << 22;
constexpr size_t kMaxContainers = 1 << 20;
// simdjson takes 8 to 25 µs for a number with an exponent and more than 19 digits: a second and a half for a
// text of this many bytes, or for any text with this many exponents.
constexpr size_t kUncountedExponents = 1 << 22;
constexpr size_t kMaxExponents = 1 << 16;
// Members and elements outside tensors that a document of regular arrays may have.
constexpr size_t kMaxVisited = 256;
constexpr size_t kMaxVisitedPerInput = 16;

// Returns how often any of these bytes occurs.
template <char... Wanted>
size_t count(std::string_view text) {
    // As many bytes side by side as a vector register of any processor holds, each counted to 255 at most.
    constexpr size_t lanes = 64, most = 255;
    size_t total = 0, at = 0;
    while (text.size() - at >= lanes) {
        std::array<uint8_t, lanes> counts{};
        const size_t rounds = std::min((text.size() - at) / lanes, most);
        for (size_t i = 0; i < rounds; ++i, at += lanes) {
            for (size_t j = 0; j < lanes; ++j) {
                const char byte = text[at + j];
                counts[j] = static_cast<uint8_t>(counts[j] + ((byte == Wanted) | ...));
            }
        }
        for (const uint8_t each : counts) total += each;
    }
    for (; at < text.size(); ++at) total += ((text[at] == Wanted) | ...);
    return total;
}

RequestError too_large(std::optional<std::string_view> field, const std::string& reason) {
    return RequestError(subject(field) + " " + reason + "; send large tensors as .npy, .npz or binary data",
                        field, 413);
}

// Proves that the tensors of a document are regular arrays of numbers, and that it holds little else. It is
// the mirror of _Document in json_arrays.py: the two workers refuse the same texts.
class Proof {
  public:
    Proof(const JsonTape& tape, const Signature& specs)
        : tape_(tape), specs_(specs), left_(kMaxVisited + kMaxVisitedPerInput * specs.size()) {}

    // `brackets`: how many [ the text has. One inside a string makes this fail too.
    bool holds(size_t brackets) {
        const uint32_t root = JsonTape::kFirst;
        if (tape_.is_object(root)) {
            if (!visit_members(root, [&](std::string_view name, uint32_t at) { return member(name, at); }))
                return false;
        } else if (!tape_.is_array(root) || specs_.size() != 1 ||
                   !tensor(root, specs_[0].shape.size(), specs_[0].dtype)) {
            return false;
        }
        return arrays_ == brackets;
    }

  private:
    bool take(size_t count) {
        if (count > left_) return false;
        left_ -= count;
        return true;
    }

    template <typename Visit>
    bool visit_members(uint32_t object, Visit&& visit) {
        if (!take(tape_.count(object))) return false;
        const uint32_t end = tape_.end(object);
        std::vector<std::string_view> names;
        for (uint32_t at = object + 1; at != end; at = tape_.after(at + 1)) names.push_back(tape_.string(at));
        std::sort(names.begin(), names.end());
        if (std::adjacent_find(names.begin(), names.end()) != names.end()) return false;
        for (const std::string_view name : names) {
            if (name.find('\0') != std::string_view::npos) return false;
        }
        for (uint32_t at = object + 1; at != end; at = tape_.after(at + 1)) {
            if (!visit(tape_.string(at), at + 1)) return false;
        }
        return true;
    }

    template <typename Visit>
    bool visit_elements(uint32_t array, Visit&& visit) {
        if (!take(tape_.count(array))) return false;
        ++arrays_;
        for (uint32_t at = array + 1, end = tape_.end(array); at != end; at = tape_.after(at)) {
            if (!visit(at)) return false;
        }
        return true;
    }

    bool member(std::string_view name, uint32_t at) {
        if (tape_.is_array(at)) {
            const auto spec = std::find_if(specs_.begin(), specs_.end(),
                                           [&](const auto& each) { return each.name == name; });
            if (spec != specs_.end()) return tensor(at, spec->shape.size(), spec->dtype);
            if (name == "inputs") {
                return visit_elements(at,
                                      [&](uint32_t item) { return tape_.is_object(item) && input(item); });
            }
        }
        return plain(at);
    }

    bool plain(uint32_t at) {
        if (tape_.is_array(at)) return visit_elements(at, [&](uint32_t item) { return plain(item); });
        if (tape_.is_object(at))
            return visit_members(at, [&](std::string_view, uint32_t item) { return plain(item); });
        return true;
    }

    // A tensor of the Open Inference Protocol.
    bool input(uint32_t object) {
        uint32_t data = 0, shape = 0, datatype = 0;
        const bool read = visit_members(object, [&](std::string_view name, uint32_t at) {
            if (name == "data") {
                data = at;
                return true;
            }
            if (name == "shape") shape = at;
            if (name == "datatype") datatype = at;
            return plain(at);
        });
        if (!read || data == 0) return read;
        if (!tape_.is_array(data) || datatype == 0 || tape_.tag(datatype) != JsonTape::kString) return false;
        size_t rank = 1;
        if (tape_.count(data) > 0 && tape_.is_array(data + 1)) {
            if (shape == 0 || !tape_.is_array(shape)) return false;
            rank = tape_.count(shape);
        }
        const Datatype* const known = find_datatype(tape_.string(datatype));
        return known != nullptr && tensor(data, rank, known->dtype);
    }

    bool tensor(uint32_t root, size_t rank, DType dtype) {
        if (dtype == DType::kBool || rank == 0) return false;
        sizes_.clear();
        large_ = fractions_ = negative_ = unsigned_ = false;
        if (!nested(root, 0, rank)) return false;
        const bool integers = !fractions_ && !(negative_ && unsigned_);
        if (kind(dtype) != 'f' && !integers && large_) return false;
        size_t arrays = 0, level = 1;
        for (const size_t size : sizes_) {
            arrays += level;
            level *= size;  // at most the number of values
        }
        arrays_ += arrays;
        return true;
    }

    bool nested(uint32_t array, size_t depth, size_t rank) {
        if (!tape_.is_array(array)) return false;
        const size_t size = tape_.count(array);
        if (depth == sizes_.size()) sizes_.push_back(size);
        if (sizes_[depth] != size) return false;
        const bool innermost = depth + 1 == rank;
        if (size == 0) return innermost;
        for (uint32_t at = array + 1, end = tape_.end(array); at != end; at = tape_.after(at)) {
            if (!(innermost ? number(at) : nested(at, depth + 1, rank))) return false;
        }
        return true;
    }

    bool number(uint32_t at) {
        double value = 0;
        switch (tape_.tag(at)) {
            case JsonTape::kInteger:
                value = static_cast<double>(tape_.integer(at));
                negative_ |= value < 0;
                break;
            case JsonTape::kUnsigned:
                value = static_cast<double>(tape_.unsigned_integer(at));
                unsigned_ = true;
                break;
            case JsonTape::kDouble:
                value = tape_.number(at);
                fractions_ = true;
                break;
            default:
                return false;
        }
        large_ |= std::abs(value) >= static_cast<double>(kExactBelow);
        return true;
    }

    const JsonTape& tape_;
    const Signature& specs_;
    size_t left_;
    size_t arrays_ = 0;
    // Of the tensor that is looked at.
    std::vector<size_t> sizes_;
    bool large_ = false, fractions_ = false, negative_ = false, unsigned_ = false;
};

}  // namespace

JsonBounds::JsonBounds(std::string_view text, std::optional<std::string_view> field, int64_t max_bytes)
    : field_(field) {
    const size_t size = text.size();
    if (size > static_cast<uint64_t>(max_bytes)) {
        throw too_large(field, "has " + std::to_string(size) + " bytes of JSON; at most " +
                                   std::to_string(max_bytes) + " are accepted");
    }
    if (size <= kMaxContainers) return;  // it cannot hold too much of anything
    const size_t containers = count<'[', '{'>(text);
    const size_t values = size > kMaxObjectValues ? containers + count<','>(text) : 0;
    many_values_ = containers > kMaxContainers || values > kMaxObjectValues;
    if (many_values_) {
        brackets_ = count<'['>(text);
        if (brackets_ > kMaxArrays) {
            throw too_large(field, "holds more than " + std::to_string(kMaxArrays) + " JSON arrays");
        }
        if (values > kMaxValues) {
            throw too_large(field, "holds more than " + std::to_string(kMaxValues) + " JSON values");
        }
    }
    many_exponents_ = size > kUncountedExponents && count<'e', 'E'>(text) > kMaxExponents;
}

void JsonBounds::require_regular() const {
    if (!many_values_) return;
    throw too_large(field_, "holds more than " + std::to_string(kMaxContainers) + " arrays and objects or " +
                                std::to_string(kMaxObjectValues) +
                                " values, not all of them in regular arrays of numbers");
}

void JsonBounds::require_regular(const JsonTape& tape, const Signature& specs) const {
    if (many_values_ && !Proof(tape, specs).holds(brackets_)) require_regular();
}

}  // namespace opserve::native
