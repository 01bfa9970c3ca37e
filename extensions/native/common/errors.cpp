#include "errors.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "unprintable.h"
#include "utf8.h"

namespace opserve::native {
namespace {

constexpr std::string_view kEllipsis = " … ";
constexpr size_t kEllipsisLength = 3;

bool is_printable(const Character& character) {
    if (!character.valid) return false;
    if (character.code < 0x7f) return character.code >= 0x20;
    const auto* range =
        std::upper_bound(std::begin(kUnprintable), std::end(kUnprintable), character.code,
                         [](uint32_t code, const uint32_t (&other)[2]) { return code < other[0]; });
    return range == std::begin(kUnprintable) || character.code > range[-1][1];
}

bool is_printable(std::string_view text) {
    while (!text.empty()) {
        const Character character = first_character(text);
        if (!is_printable(character)) return false;
        text.remove_prefix(character.bytes);
    }
    return true;
}

// As Python's unicode_escape.
void append_escaped(std::string& out, const Character& character) {
    switch (character.code) {
        case '\t':
            out += "\\t";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
    }
    char escape[16];
    const char* format = character.code < 0x100     ? "\\x%02x"
                         : character.code < 0x10000 ? "\\u%04x"
                                                    : "\\U%08x";
    out.append(escape, std::snprintf(escape, sizeof escape, format, character.code));
}

// Whether a text has more than `limit` characters; looks at no more than those.
bool is_longer(std::string_view text, size_t limit) {
    if (text.size() <= limit) return false;
    for (size_t count = 0; !text.empty(); ++count) {
        if (count == limit) return true;
        text.remove_prefix(first_character(text).bytes);
    }
    return false;
}

// As Python's str.isspace, for str.strip.
bool is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
           code == 0x202f || code == 0x205f || code == 0x3000;
}

// As Python's str.splitlines.
bool ends_line(uint32_t code) {
    return (code >= 0x0a && code <= 0x0d) || (code >= 0x1c && code <= 0x1e) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

}  // namespace

RequestError::RequestError(std::string_view message, std::optional<std::string_view> field, int status)
    : message_(printable(message, kMaxMessage)), status_(status >= 400 && status <= 599 ? status : 500) {
    if (field && !is_longer(*field, kMaxField)) field_ = printable(*field, kMaxField);
}

std::string shortened(std::string_view text, size_t limit) {
    if (!is_longer(text, limit)) return std::string(text);
    const size_t end = limit / 3, begin = limit - std::min(limit, end + kEllipsisLength);
    size_t head = 0, tail = text.size();
    for (size_t i = 0; i < begin; ++i) head += first_character(text.substr(head)).bytes;
    for (size_t i = 0; i < end; ++i) tail -= last_character(text.substr(0, tail)).bytes;
    std::string kept(text.substr(0, head));
    return kept.append(kEllipsis).append(text.substr(tail));
}

std::string printable(std::string_view text, size_t limit) {
    std::string kept = shortened(text, limit);
    if (is_printable(kept)) return kept;
    std::string escaped;
    for (std::string_view left = kept; !left.empty();) {
        const Character character = first_character(left);
        if (is_printable(character)) {
            escaped += left.substr(0, character.bytes);
        } else {
            append_escaped(escaped, character);
        }
        left.remove_prefix(character.bytes);
    }
    return shortened(escaped, limit);
}

std::string last_line(std::string_view text) {
    const auto is_blank = [](const Character& character) {
        return character.valid && is_space(character.code);
    };
    while (!text.empty() && is_blank(first_character(text))) text.remove_prefix(first_character(text).bytes);
    while (!text.empty() && is_blank(last_character(text))) text.remove_suffix(last_character(text).bytes);
    size_t begin = text.size();
    while (begin > 0) {
        const Character before = last_character(text.substr(0, begin));
        if (before.valid && ends_line(before.code)) break;
        begin -= before.bytes;
    }
    return printable(text.substr(begin), kMaxLogged);
}

}  // namespace opserve::native
