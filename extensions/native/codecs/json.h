// Parses the JSON of requests: mostly numbers, which go straight into arrays. What is accepted and refused is
// what handlers/codecs/json_arrays.py and signature.py have.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../common/array.h"
#include "../signature/signature.h"
#include "json_tape.h"
#include "request.h"

namespace opserve::native {

// kInteger: written without a fraction and an exponent, or beyond the range of float64; kNumber: any other
// number.
enum class JsonKind { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };

// A value of a parsed text; valid as long as its JsonDocument.
class JsonValue {
  public:
    JsonValue(const JsonTape& tape, uint32_t at) : tape_(&tape), at_(at) {}

    JsonKind kind() const;
    bool is(JsonKind wanted) const { return kind() == wanted; }
    bool boolean() const { return tape_->tag(at_) == JsonTape::kTrue; }  // kBool
    std::optional<int64_t> integer() const;                              // kInteger within int64
    std::string_view string() const { return tape_->string(at_); }       // kString, valid UTF-8
    // Elements of an array; members of an object, of which some may have the same name.
    size_t size() const { return tape_->count(at_); }
    // Calls visit(JsonValue) for each element of an array; or visit(std::string_view name, JsonValue) for
    // each member of an object in order, for those with the same name once: with the last value, in the place
    // of the first.
    template <typename Visit>
    void for_each(Visit&& visit) const;
    // The member of an object with this name (the last one, if there are several).
    std::optional<JsonValue> find(std::string_view name) const;

    const JsonTape& tape() const { return *tape_; }
    uint32_t at() const { return at_; }

  private:
    // For each name, where it occurs first and last.
    using Places = std::vector<std::pair<uint32_t, uint32_t>>;
    static constexpr size_t kFew = 16;
    Places places_of_names() const;
    // Where this name occurs last, if it is at `place` for the first time; else 0.
    uint32_t last_place(uint32_t place) const;

    const JsonTape* tape_;
    uint32_t at_;
};

// A parsed text. simdjson parses JSON; what it does not know (NaN, Infinity, numbers that no float64 holds) a
// second parser does. Neither refers to the text afterwards.
class JsonDocument {
  public:
    // Parses a text, after which Part::kPadding bytes can be read. `specs` are the tensors that it may hold,
    // which the bounds on what is not a regular array of numbers depend on. Throws RequestError: not JSON in
    // UTF-8; (413) longer than `max_bytes`, or of more values than one request may have.
    static JsonDocument parse(const Buffer& text, std::optional<std::string_view> field,
                              const Signature& specs, int64_t max_bytes);
    JsonDocument(JsonDocument&&) noexcept;
    JsonDocument& operator=(JsonDocument&&) noexcept;
    ~JsonDocument();

    JsonValue root() const;

  private:
    struct State;
    class Kept;
    explicit JsonDocument(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// Returns the array of `spec` for a number or nested lists of numbers. Throws RequestError: not numbers,
// ragged, a value the dtype cannot hold, another shape, or a number below the minimum.
Array convert(const JsonValue& value, const TensorSpec& spec);

template <typename Visit>
void JsonValue::for_each(Visit&& visit) const {
    const uint32_t end = tape_->end(at_);
    if constexpr (std::is_invocable_v<Visit, JsonValue>) {
        for (uint32_t at = at_ + 1; at != end; at = tape_->after(at)) visit(JsonValue(*tape_, at));
    } else if (size() > kFew) {
        for (const auto& [first, last] : places_of_names())
            visit(tape_->string(first), JsonValue(*tape_, last + 1));
    } else {
        for (uint32_t at = at_ + 1; at != end; at = tape_->after(at + 1)) {
            if (const uint32_t last = last_place(at)) visit(tape_->string(at), JsonValue(*tape_, last + 1));
        }
    }
}

}  // namespace opserve::native
