// The refusal of a file that is not as it should be.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "../common/errors.h"
#include "request.h"

namespace opserve::native {

inline RequestError unreadable(std::optional<std::string_view> field, std::string_view reason) {
    return RequestError(subject(field) + " cannot be read: " + std::string(reason), field);
}

}  // namespace opserve::native
