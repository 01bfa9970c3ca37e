// JSON of the archive itself, such as its manifest: a tree small enough to copy, read by simdjson, and
// written as Python's json.dumps does with sort_keys=True.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace opserve::native {

struct Json;
using JsonList = std::vector<Json>;
using JsonObject = std::map<std::string, Json, std::less<>>;

struct Json {
    std::variant<std::monostate, bool, int64_t, double, std::string, JsonList, JsonObject> value;

    template <typename T>
    const T* as() const {
        return std::get_if<T>(&value);
    }
    bool is_null() const { return std::holds_alternative<std::monostate>(value); }
    // The member of an object with this name; null if there is none, or if this is not an object.
    const Json* find(std::string_view name) const;
};

// Throws std::invalid_argument, with the reason.
Json parse_json(std::string_view text);

// In one line, or over several with an indent of two spaces. Only ASCII is written.
std::string write_json(const Json& value, bool indented);

}  // namespace opserve::native
