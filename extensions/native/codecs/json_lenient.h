// The parser for texts that simdjson refuses, which are JSON but for NaN, Infinity and -Infinity, or hold a
// number that no float64 or 64-bit integer does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json_tape.h"

namespace opserve::native {

class LenientJson {
  public:
    // Parses a text in valid UTF-8. Returns whether it is JSON.
    bool parse(std::string_view text);
    // What is wrong with the text, and where.
    std::string reason() const;

    JsonTape tape() const { return {words_.data(), strings_.data()}; }
    size_t bytes_held() const { return words_.capacity() * sizeof(uint64_t) + strings_.capacity(); }

  private:
    struct Container {
        uint32_t at;
        uint32_t count = 0;
    };

    bool walk();
    bool scalar();
    bool string();
    bool escape();
    bool number();
    bool word(std::string_view wanted);
    bool open(JsonTape::Tag tag);
    void close(JsonTape::Tag tag);
    void skip_space();
    // The next byte; NUL, which is nowhere allowed, at the end.
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool fail(const char* what);
    void append(JsonTape::Tag tag, uint64_t payload = 0) { words_.push_back(JsonTape::word(tag, payload)); }
    void append_number(JsonTape::Tag tag, uint64_t bits);

    std::string_view text_;
    size_t at_ = 0;
    const char* what_ = "";
    std::vector<uint64_t> words_;
    std::vector<uint8_t> strings_;
    std::vector<Container> open_;
    size_t deepest_ = 0;
    bool strict_ = true;  // as far as it was read, orjson would accept it too
};

}  // namespace opserve::native
