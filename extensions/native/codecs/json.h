// Parses the JSON of requests: mostly numbers, which go straight into arrays. What is accepted and refused is what
// handlers/codecs/json_arrays.py and signature.py have.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "../common/array.h"
#include "../signature/signature.h"
#include "request.h"

namespace opserve::native {

enum class JsonKind { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };

// A value of a parsed text; valid as long as its JsonDocument.
class JsonValue;

// See json.cpp for the parsers behind it: simdjson for JSON, a lenient one for NaN, Infinity, a byte order mark and
// numbers that no float64 holds.
class JsonDocument {
  public:
    // Parses a text. `specs` are the tensors that it may hold, which the bounds on what is not a regular array of numbers
    // depend on. Throws RequestError: not JSON in UTF-8; (413) longer than `max_bytes`, or of more values than one request
    // may have.
    static JsonDocument parse(const Buffer& text, std::optional<std::string_view> field, const Signature& specs, int64_t max_bytes);
    JsonDocument(JsonDocument&&) noexcept;
    JsonDocument& operator=(JsonDocument&&) noexcept;
    ~JsonDocument();

    JsonValue root() const;

  private:
    friend class JsonValue;
    struct State;
    explicit JsonDocument(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

class JsonValue {
  public:
    JsonKind kind() const;
    bool is(JsonKind wanted) const { return kind() == wanted; }
    bool boolean() const;                       // kBool
    std::optional<int64_t> integer() const;     // kInteger within int64
    std::string_view string() const;            // kString, valid UTF-8
    size_t size() const;                        // elements of an array, members of an object
    // Calls visit(JsonValue) for each element, or visit(std::string_view name, JsonValue) for each member in order, of
    // names that occur twice the last value at the place of the first.
    template <typename Visit>
    void for_each(Visit&& visit) const;
    // The member of an object with this name (the last one, if there are several).
    std::optional<JsonValue> find(std::string_view name) const;

    // What the implementation needs; see json.cpp.
    const void* document = nullptr;
    uint64_t handle = 0;
};

// Returns the array of `spec` for a number or nested lists of numbers. Throws RequestError: not numbers, ragged, a value
// the dtype cannot hold, another shape, or a number below the minimum.
Array convert(const JsonValue& value, const TensorSpec& spec);

}  // namespace opserve::native
