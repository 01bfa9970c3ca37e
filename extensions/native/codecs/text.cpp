#include "text.h"

#include <algorithm>
#include <vector>

#include "../common/errors.h"
#include "../common/utf8.h"

namespace opserve::native {

namespace {

// As Python's str.isspace.
bool is_space(const Character& character) {
    const uint32_t code = character.code;
    if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f);
    return character.valid &&
           (code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
            code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000);
}

char lower(char byte) { return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte; }

}  // namespace

size_t count_characters(std::string_view text) {
    size_t count = 0;
    for (; !text.empty(); ++count) text.remove_prefix(first_character(text).bytes);
    return count;
}

std::string_view first_characters(std::string_view text, size_t count) {
    if (text.size() <= count) return text;
    size_t end = 0;
    for (; count > 0 && end < text.size(); --count) end += first_character(text.substr(end)).bytes;
    return text.substr(0, end);
}

std::string_view strip_left(std::string_view text) {
    while (!text.empty()) {
        const Character first = first_character(text);
        if (!is_space(first)) break;
        text.remove_prefix(first.bytes);
    }
    return text;
}

std::string_view strip(std::string_view text) {
    text = strip_left(text);
    while (!text.empty()) {
        const Character last = last_character(text);
        if (!is_space(last)) break;
        text.remove_suffix(last.bytes);
    }
    return text;
}

bool equals_ignoring_case(std::string_view text, std::string_view expected) {
    return text.size() == expected.size() &&
           std::equal(text.begin(), text.end(), expected.begin(),
                      [](char left, char right) { return lower(left) == right; });
}

std::string quoted(std::string_view text) {
    const bool doubled =
        text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
    const char quote = doubled ? '"' : '\'';
    std::string escaped(1, quote);
    for (const char each : text) {
        if (each == '\\' || each == quote) escaped += '\\';
        escaped += each;
    }
    escaped += quote;
    return printable(escaped, SIZE_MAX);
}

std::string list_text(const Shape& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(shape[i]);
    }
    return text + "]";
}

std::string product_text(const Shape& sizes, uint64_t factor) {
    constexpr uint64_t kBase = 1'000'000'000;
    std::vector<uint64_t> digits{1};  // of that base, the lowest first
    const auto multiply = [&](uint64_t by) {
        unsigned __int128 carry = 0;
        for (uint64_t& digit : digits) {
            carry += static_cast<unsigned __int128>(digit) * by;
            digit = static_cast<uint64_t>(carry % kBase);
            carry /= kBase;
        }
        for (; carry > 0; carry /= kBase) digits.push_back(static_cast<uint64_t>(carry % kBase));
    };
    multiply(factor);
    for (const int64_t size : sizes) multiply(static_cast<uint64_t>(size));
    while (digits.size() > 1 && digits.back() == 0) digits.pop_back();
    std::string text = std::to_string(digits.back());
    for (size_t i = digits.size() - 1; i-- > 0;) {
        const std::string next = std::to_string(digits[i]);
        text.append(9 - next.size(), '0');
        text += next;
    }
    return text;
}

}  // namespace opserve::native
