// UTF-8, character by character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace opserve::native {

struct Character {
    uint32_t code = 0;  // of a byte that is not UTF-8: the byte
    uint8_t bytes = 1;
    bool valid = true;
};

// Returns the first character of a text that is not empty; a byte that no character begins with counts as
// one.
inline Character first_character(std::string_view text) {
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
    const auto follows = [&](size_t at, uint8_t low = 0x80, uint8_t high = 0xbf) {
        return at < text.size() && byte(at) >= low && byte(at) <= high;
    };
    const uint8_t lead = byte(0);
    if (lead < 0x80) return {lead};
    if (lead >= 0xc2 && lead < 0xe0 && follows(1)) {
        return {(lead & 0x1fU) << 6 | (byte(1) & 0x3fU), 2};
    }
    // Neither longer than needed, nor half of a surrogate pair, nor beyond the last code point.
    if (lead >= 0xe0 && lead < 0xf0 && follows(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) &&
        follows(2)) {
        return {(lead & 0xfU) << 12 | (byte(1) & 0x3fU) << 6 | (byte(2) & 0x3fU), 3};
    }
    if (lead >= 0xf0 && lead < 0xf5 && follows(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) &&
        follows(2) && follows(3)) {
        return {(lead & 7U) << 18 | (byte(1) & 0x3fU) << 12 | (byte(2) & 0x3fU) << 6 | (byte(3) & 0x3fU), 4};
    }
    return {lead, 1, false};
}

// Returns the last character of a text that is not empty.
inline Character last_character(std::string_view text) {
    for (size_t bytes = 1; bytes <= 4 && bytes <= text.size(); ++bytes) {
        const Character found = first_character(text.substr(text.size() - bytes));
        if (found.valid && found.bytes == bytes) return found;
    }
    return {static_cast<uint8_t>(text.back()), 1, false};
}

// Writes a code point, which is not a surrogate, to at most 4 bytes; returns how many.
inline size_t write_utf8(char* out, uint32_t code) {
    const auto tail = [code](int shift) { return static_cast<char>(0x80 | (code >> shift & 0x3f)); };
    if (code < 0x80) {
        out[0] = static_cast<char>(code);
        return 1;
    }
    if (code < 0x800) {
        out[0] = static_cast<char>(0xc0 | code >> 6);
        out[1] = tail(0);
        return 2;
    }
    if (code < 0x10000) {
        out[0] = static_cast<char>(0xe0 | code >> 12);
        out[1] = tail(6);
        out[2] = tail(0);
        return 3;
    }
    out[0] = static_cast<char>(0xf0 | code >> 18);
    out[1] = tail(12);
    out[2] = tail(6);
    out[3] = tail(0);
    return 4;
}

}  // namespace opserve::native
