#include "switches.h"

#include <cstdlib>
#include <string>

#include "../common/errors.h"

namespace opserve::native {

bool is_enabled(const char* name) {
    const char* set = std::getenv(name);
    if (set == nullptr) return true;
    const std::string value = set;
    if (value == "on") return true;
    if (value == "off") return false;
    throw ModelError(std::string(name) + ": expected on or off, got '" + printable(value, kMaxMessage) + "'");
}

}  // namespace opserve::native
