// Python literals, as ast.literal_eval reads them: the header of an .npy file is one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace opserve::native {

struct Literal {
    // kOther: None, a float, a complex number, bytes, a set or an ellipsis.
    enum class Kind : uint8_t { kBool, kInteger, kString, kTuple, kList, kDict, kOther };

    Kind kind = Kind::kOther;
    bool boolean = false;
    std::optional<int64_t> integer;  // none if int64 cannot hold it
    bool negative = false;           // the integer has a minus sign
    std::string string;              // its bytes as they are in the text
    std::vector<Literal> items;  // of a tuple; of a dict its keys and values in turn, repeated keys included
};

// Returns the literal that a text in Latin-1 consists of, or none if ast.literal_eval raises an error for it.
// A backslash is always refused, although Python has escapes and joins lines.
std::optional<Literal> parse_literal(std::string_view text);

}  // namespace opserve::native
