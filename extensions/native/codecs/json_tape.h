// A parsed JSON text as simdjson lays it out (doc/tape.md there): one word for each value, with its kind in
// the upper byte, and a second word for the value of a number. Both parsers write it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace opserve::native {

struct JsonTape {
    // In the upper byte of a word.
    enum Tag : uint8_t {
        kRoot = 'r',
        kArray = '[',
        kArrayEnd = ']',
        kObject = '{',
        kObjectEnd = '}',
        kString = '"',
        kInteger = 'l',   // int64, in the next word
        kUnsigned = 'u',  // uint64 beyond int64, in the next word
        kDouble = 'd',    // in the next word
        kTrue = 't',
        kFalse = 'f',
        kNull = 'n',
        kBeyond = 'Z',  // a number beyond the range of float64; simdjson itself refuses those
    };
    static constexpr uint64_t word(Tag tag, uint64_t payload = 0) { return uint64_t{tag} << 56 | payload; }

    const uint64_t* words = nullptr;
    const uint8_t* strings = nullptr;

    static constexpr uint32_t kFirst = 1;  // the root value; before it is a word for the whole text

    Tag tag(uint32_t at) const { return static_cast<Tag>(words[at] >> 56); }
    bool is_array(uint32_t at) const { return tag(at) == kArray; }
    bool is_object(uint32_t at) const { return tag(at) == kObject; }
    // Of an array or object: the number of elements or members (fewer than 2^24 - 1; parse() sees to that).
    uint32_t count(uint32_t at) const { return static_cast<uint32_t>(words[at] >> 32 & 0xffffff); }
    // Where the elements of an array or object end: at its last word.
    uint32_t end(uint32_t at) const { return static_cast<uint32_t>(words[at]) - 1; }
    // The value that follows.
    uint32_t after(uint32_t at) const {
        switch (tag(at)) {
            case kArray:
            case kObject:
                return static_cast<uint32_t>(words[at]);
            case kInteger:
            case kUnsigned:
            case kDouble:
                return at + 2;
            default:
                return at + 1;
        }
    }
    double number(uint32_t at) const { return std::bit_cast<double>(words[at + 1]); }
    int64_t integer(uint32_t at) const { return static_cast<int64_t>(words[at + 1]); }
    uint64_t unsigned_integer(uint32_t at) const { return words[at + 1]; }
    // Four bytes of length come before the text.
    std::string_view string(uint32_t at) const {
        const uint8_t* const place = strings + (words[at] & 0xffffffffffffff);
        uint32_t length = 0;
        std::memcpy(&length, place, sizeof length);
        return {reinterpret_cast<const char*>(place + sizeof length), length};
    }
};

}  // namespace opserve::native
