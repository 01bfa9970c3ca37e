// Writes JSON with the bytes that orjson writes, up to a bound that is checked while writing: a text that is
// too long is never built.
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../common/array.h"

namespace opserve::native {

// The response would be larger than it may be.
class ResponseTooLarge {};

class JsonWriter {
  public:
    // Appends to `out`, which may grow to `max_bytes` in all (it may hold a few more when ResponseTooLarge is
    // thrown).
    JsonWriter(std::string& out, uint64_t max_bytes) : out_(out), max_bytes_(max_bytes) {}
    JsonWriter(const JsonWriter&) = delete;
    JsonWriter& operator=(const JsonWriter&) = delete;

    // A piece of JSON as it is.
    void raw(std::string_view json);
    // A text in valid UTF-8 as a string.
    void text(std::string_view text);
    void number(std::integral auto value) {
        reserve(kLongest);
        at_ = std::to_chars(at_, at_ + kLongest, value).ptr;
    }
    // An array in C order, native, as nested lists; NaN and infinity become null. One without dimensions is a
    // number.
    void lists(const Array& array);
    // The same as a flat list.
    void flat(const Array& array);
    // The numbers of a float array as a flat list, each as a float64, with the names of those that JSON does
    // not have as strings.
    void numbers_and_names(const Array& array);
    // "[2,3]"
    void sizes(const Shape& shape);

    // Hands over what is left; to be called after the last piece. Each of these throws ResponseTooLarge.
    void finish() { flush(); }

  private:
    // Characters of the longest number, "-2.2250738585072014e-308", with a comma and a bracket; more than
    // enough.
    static constexpr size_t kLongest = 40;

    void reserve(size_t length) {
        if (static_cast<size_t>(buffer_ + sizeof buffer_ - at_) < length) flush();
    }
    void flush();
    void put(char character) {
        reserve(1);
        *at_++ = character;
    }
    template <typename Put>
    const std::byte* nested(const std::byte* data, std::span<const int64_t> shape, size_t item_size,
                            Put put_number);
    void elements(const Array& array, std::span<const int64_t> shape);

    std::string& out_;
    const uint64_t max_bytes_;
    char buffer_[4096];
    char* at_ = buffer_;
};

}  // namespace opserve::native
