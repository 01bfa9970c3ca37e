// The exceptions of PyTorch, as texts.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace opserve::native {

// The whole message of an exception, as Python has it: without the C++ backtrace.
std::string error_text(const std::exception& error);

// The first line of a text that is not empty; what Python's error_lines()[0] is.
std::string first_line(std::string_view text);

}  // namespace opserve::native
