#include "request.h"

#include <algorithm>

namespace opserve::native {

const std::string* Request::header(std::string_view name) const {
    const auto same = [&](const std::string& other) {
        return std::equal(name.begin(), name.end(), other.begin(), other.end(), [](char wanted, char lower) {
            return (wanted >= 'A' && wanted <= 'Z' ? static_cast<char>(wanted + ('a' - 'A')) : wanted) ==
                   lower;
        });
    };
    // Of several with one name, the last counts.
    const auto found =
        std::find_if(headers.rbegin(), headers.rend(), [&](const auto& each) { return same(each.first); });
    return found == headers.rend() ? nullptr : &found->second;
}

std::string subject(std::optional<std::string_view> field) {
    if (!field || field->empty()) return "the request's body";
    return "'" + std::string(*field) + "'";
}

}  // namespace opserve::native
