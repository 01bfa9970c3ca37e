#include "json_lenient.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "../common/utf8.h"

namespace opserve::native {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr size_t kMaxDepth = 1024;  // as orjson has it
// Of a text that orjson refuses: MAX_LENIENT_DEPTH of json_arrays.py.
constexpr size_t kMaxLenientDepth = 512;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Whether a valid number that is not 0, and that std::from_chars finds out of range, is too large rather than
// too small.
bool is_too_large(std::string_view number) {
    const size_t e = std::min(number.find_first_of("eE"), number.size());
    const std::string_view mantissa = number.substr(0, e);
    const size_t point = std::min(mantissa.find('.'), mantissa.size());
    const size_t leading = mantissa.find_first_of("123456789");
    // Of the leading digit.
    const auto position = static_cast<int64_t>(point) - static_cast<int64_t>(leading);
    int64_t exponent = 0;
    const bool negative = e + 1 < number.size() && number[e + 1] == '-';
    for (size_t i = e; i < number.size(); ++i) {
        if (is_digit(number[i]))
            exponent = std::min<int64_t>(exponent * 10 + (number[i] - '0'), 1'000'000'000'000);
    }
    return position + (negative ? -exponent : exponent) > 0;
}

}  // namespace

bool LenientJson::parse(std::string_view text) {
    text_ = text;
    strict_ = text.substr(0, kByteOrderMark.size()) != kByteOrderMark;
    at_ = strict_ ? 0 : kByteOrderMark.size();
    deepest_ = 0;
    words_.clear();
    strings_.clear();
    open_.clear();
    append(JsonTape::kRoot);
    if (!walk()) return false;
    return strict_ || deepest_ <= kMaxLenientDepth || fail("depth limit exceeded");
}

std::string LenientJson::reason() const {
    size_t line = 1, column = 1, count = 0;
    for (std::string_view before = text_.substr(0, at_); !before.empty(); ++count) {
        const Character character = first_character(before);
        before.remove_prefix(character.bytes);
        ++column;
        if (character.code == '\n') {
            ++line;
            column = 1;
        }
    }
    return std::string(what_) + ": line " + std::to_string(line) + " column " + std::to_string(column) +
           " (char " + std::to_string(count) + ")";
}

bool LenientJson::fail(const char* what) {
    what_ = what;
    return false;
}

void LenientJson::skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
        ++at_;
    }
}

void LenientJson::append_number(JsonTape::Tag tag, uint64_t bits) {
    append(tag);
    words_.push_back(bits);
}

bool LenientJson::open(JsonTape::Tag tag) {
    if (open_.size() == kMaxDepth) return fail("depth limit exceeded");
    open_.push_back({static_cast<uint32_t>(words_.size())});
    deepest_ = std::max(deepest_, open_.size());
    append(tag);
    ++at_;
    return true;
}

void LenientJson::close(JsonTape::Tag tag) {
    const Container container = open_.back();
    open_.pop_back();
    append(tag, container.at);
    words_[container.at] |= uint64_t{container.count} << 32 | words_.size();
    ++at_;
}

bool LenientJson::walk() {
    bool in_object = false;
    for (;;) {
        skip_space();
        if (in_object) {
            if (peek() != '"') return fail("object key must be a string");
            if (!string()) return false;
            skip_space();
            if (peek() != ':') return fail("expected a colon after the key");
            ++at_;
            skip_space();
        }
        if (!open_.empty()) ++open_.back().count;
        const char first = peek();
        bool descended = false;
        if (first == '[' || first == '{') {
            in_object = first == '{';
            if (!open(in_object ? JsonTape::kObject : JsonTape::kArray)) return false;
            skip_space();
            descended = peek() != (in_object ? '}' : ']');
        } else if (!scalar()) {
            return false;
        }
        if (descended) continue;
        // What follows a value: the ends of what it is in, and a comma.
        for (;;) {
            skip_space();
            if (open_.empty()) return at_ == text_.size() || fail("unexpected content after document");
            const bool of_object = words_[open_.back().at] >> 56 == JsonTape::kObject;
            if (peek() == ',') {
                ++at_;
                in_object = of_object;
                break;
            }
            if (peek() != (of_object ? '}' : ']'))
                return fail("expected a comma or the end of the list or object");
            close(of_object ? JsonTape::kObjectEnd : JsonTape::kArrayEnd);
        }
    }
}

bool LenientJson::scalar() {
    switch (peek()) {
        case '"':
            return string();
        case 't':
            append(JsonTape::kTrue);
            return word("true");
        case 'f':
            append(JsonTape::kFalse);
            return word("false");
        case 'n':
            append(JsonTape::kNull);
            return word("null");
        case 'N':
            strict_ = false;
            append_number(JsonTape::kDouble,
                          std::bit_cast<uint64_t>(std::numeric_limits<double>::quiet_NaN()));
            return word("NaN");
        case 'I':
            strict_ = false;
            append_number(JsonTape::kDouble,
                          std::bit_cast<uint64_t>(std::numeric_limits<double>::infinity()));
            return word("Infinity");
        default:
            return number();
    }
}

bool LenientJson::word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return fail("unexpected character");
    at_ += wanted.size();
    return true;
}

bool LenientJson::number() {
    const size_t begin = at_;
    if (peek() == '-') ++at_;
    if (at_ > begin && peek() == 'I') {
        strict_ = false;
        append_number(JsonTape::kDouble, std::bit_cast<uint64_t>(-std::numeric_limits<double>::infinity()));
        return word("Infinity");
    }
    const auto digits = [&] {
        const size_t first = at_;
        while (is_digit(peek())) ++at_;
        return at_ > first;
    };
    if (peek() == '0') {
        ++at_;
    } else if (!digits()) {
        return fail("unexpected character");
    }
    bool whole = true;
    if (peek() == '.') {
        whole = false;
        ++at_;
        if (!digits()) return fail("invalid number");
    }
    if (peek() == 'e' || peek() == 'E') {
        whole = false;
        ++at_;
        if (peek() == '-' || peek() == '+') ++at_;
        if (!digits()) return fail("invalid number");
    }
    const char *const first = text_.data() + begin, *const last = text_.data() + at_;
    if (whole) {
        int64_t integer = 0;
        if (std::from_chars(first, last, integer).ec == std::errc()) {
            append_number(JsonTape::kInteger, static_cast<uint64_t>(integer));
            return true;
        }
        uint64_t larger = 0;
        if (*first != '-' && std::from_chars(first, last, larger).ec == std::errc()) {
            append_number(JsonTape::kUnsigned, larger);
            return true;
        }
    }
    double value = 0;
    const bool in_range = std::from_chars(first, last, value).ec == std::errc() && std::isfinite(value);
    if (!in_range && is_too_large({first, last})) {
        strict_ = false;
        append(JsonTape::kBeyond);
    } else {
        if (!in_range) value = *first == '-' ? -0.0 : 0.0;
        append_number(JsonTape::kDouble, std::bit_cast<uint64_t>(value));
    }
    return true;
}

bool LenientJson::string() {
    append(JsonTape::kString, strings_.size());
    const size_t begin = strings_.size();
    strings_.resize(begin + sizeof(uint32_t));
    for (++at_;;) {
        const size_t run = at_;
        while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
               static_cast<uint8_t>(text_[at_]) >= 0x20) {
            ++at_;
        }
        const auto* const bytes = reinterpret_cast<const uint8_t*>(text_.data());
        strings_.insert(strings_.end(), bytes + run, bytes + at_);
        if (at_ == text_.size()) return fail("unexpected end of a string");
        if (text_[at_] == '"') break;
        if (text_[at_] != '\\') return fail("unescaped control character in a string");
        if (!escape()) return false;
    }
    ++at_;
    const auto length = static_cast<uint32_t>(strings_.size() - begin - sizeof(uint32_t));
    std::memcpy(&strings_[begin], &length, sizeof length);
    return true;
}

bool LenientJson::escape() {
    const auto unit = [&](uint32_t& code) {
        const char* const first = text_.data() + at_;
        if (text_.size() - at_ < 6 || first[0] != '\\' || first[1] != 'u') return false;
        const auto [end, error] = std::from_chars(first + 2, first + 6, code, 16);
        if (error != std::errc() || end != first + 6) return false;
        at_ += 6;
        return true;
    };
    uint32_t code = 0;
    const char kind = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    if (kind == 'u') {
        if (!unit(code)) return fail("invalid escaped character in a string");
        if (code >= 0xd800 && code < 0xe000) {
            uint32_t low = 0;
            if (code >= 0xdc00 || !unit(low) || low < 0xdc00 || low >= 0xe000) {
                return fail("half of a surrogate pair in a string");
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char character[4];
        const size_t bytes = write_utf8(character, code);
        strings_.insert(strings_.end(), character, character + bytes);
        return true;
    }
    static constexpr std::string_view kinds = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const size_t known = kinds.find(kind);
    if (known == std::string_view::npos) return fail("invalid escaped character in a string");
    strings_.push_back(static_cast<uint8_t>(meanings[known]));
    at_ += 2;
    return true;
}

}  // namespace opserve::native
