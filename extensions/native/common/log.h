// What the worker says about itself, line by line, for whoever runs it.
#pragma once

#include <string_view>

namespace opserve::native {

// Writes one record. It may quote a request: whoever writes it makes it printable and bounds it.
void log(std::string_view text);

// From now on records are written by `write`. Before that, they go to stderr.
void log_with(void (*write)(std::string_view text));

}  // namespace opserve::native
