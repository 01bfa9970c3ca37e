// The bounds on the values of a JSON text, which handlers/codecs/json_arrays.py has: they keep what one
// request costs below 1 GiB of memory and a few seconds, in either worker.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "../signature/signature.h"
#include "json_tape.h"

namespace opserve::native {

class JsonBounds {
  public:
    // Counts what a text may hold, before it is parsed. Throws RequestError: 413, it is longer than
    // `max_bytes`, or of more values than any request may have.
    JsonBounds(std::string_view text, std::optional<std::string_view> field, int64_t max_bytes);

    // Whether simdjson parses such a text in reasonable time.
    bool is_for_simdjson() const { return !many_exponents_; }
    // Throws RequestError: 413, the text has more values than one may have that are not in regular arrays of
    // numbers.
    void require_regular() const;
    void require_regular(const JsonTape& tape, const Signature& specs) const;

  private:
    std::optional<std::string_view> field_;
    size_t brackets_ = 0;
    bool many_exponents_ = false;
    bool many_values_ = false;  // more than are accepted outside of regular arrays
};

}  // namespace opserve::native
