// The headers of .npy files, versions 1 to 3. Which dtypes and sizes are accepted is for the caller to
// decide.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "../common/array.h"

namespace opserve::native {

// What a header says.
struct NpyHeader {
    std::string descr;  // the dtype, as it is written there
    bool fortran_order = false;
    Shape shape;  // sizes of 0 or more
};

class BadNpyHeader : public std::exception {
  public:
    enum class Reason : uint8_t {
        kBackslash,
        kUnreadable,  // not a Python literal
        kKeys,        // not a dict of descr, fortran_order and shape alone
        kValues,      // another value than a str, a bool and a tuple of sizes
        kFields,      // of these, the dtype of records
        kTooLarge,    // of these, a size that int64 cannot hold
    };
    explicit BadNpyHeader(Reason reason) : reason_(reason) {}
    Reason reason() const { return reason_; }
    const char* what() const noexcept override { return "the header of an .npy file is not accepted"; }

  private:
    Reason reason_;
};

// Parses the text of a header, in Latin-1. Throws BadNpyHeader.
NpyHeader parse_npy_header(std::string_view text);

// A dtype of numbers.
struct NpyType {
    char kind = 'f';  // as in numpy.dtype.kind: bool, integers, floats and 'c' for complex
    int item_size = 4;
    bool swapped = false;  // in the other byte order than this machine's
};
// Returns the dtype that numpy.dtype(descr) is for "<f4", "|b1", "=i8", "f4" or "float32"; none for any other
// text.
std::optional<NpyType> parse_npy_type(std::string_view descr);

// Returns the beginning of an .npy file of version 1.0, with the bytes that NumPy writes.
std::string make_npy_header(const NpyType& type, const Shape& shape);

}  // namespace opserve::native
