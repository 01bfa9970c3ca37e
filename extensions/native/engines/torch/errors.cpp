#include "errors.h"

#include <c10/util/Exception.h>

namespace opserve::native {

std::string error_text(const std::exception& error) {
    const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
    return torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
}

std::string first_line(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r\n\v\f");
    if (begin == text.npos) return "unknown error";
    text.remove_prefix(begin);
    return std::string(text.substr(0, text.find_first_of("\r\n")));
}

}  // namespace opserve::native
