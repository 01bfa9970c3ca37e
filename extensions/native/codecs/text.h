// Texts as messages quote them and as headers hold them, in UTF-8: what Python's str does, for messages equal
// to the letter. Bytes that are not UTF-8 count as one character each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "../common/array.h"

namespace opserve::native {

// The number of code points.
size_t count_characters(std::string_view text);

// The first `count` code points.
std::string_view first_characters(std::string_view text, size_t count);

// Without the white space at both ends, as str.strip has it; `strip_left` only at the beginning.
std::string_view strip(std::string_view text);
std::string_view strip_left(std::string_view text);

// Whether two texts are equal but for the case of ASCII letters; `lower` is in lower case already.
bool equals_ignoring_case(std::string_view text, std::string_view lower);

// As Python's repr() has it: in quotes, with escapes for what is not printable.
std::string quoted(std::string_view text);

// "[2, 3]".
std::string list_text(const Shape& shape);

// The product of sizes of 0 or more and a factor, in decimal digits, however large it is.
std::string product_text(const Shape& sizes, uint64_t factor);

}  // namespace opserve::native
