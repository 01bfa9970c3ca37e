// Tensors in memory that a client on the same host shares: handlers/codecs/shared_memory.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "../common/array.h"
#include "json.h"
#include "request.h"

namespace opserve::native {

struct Region {
    std::string key;
    int64_t offset = 0, size = 0;
};

struct SharedMemory {
    std::optional<std::string> prefix;  // of the keys; without one there are none
    int64_t max_bytes = int64_t{1} << 28;

    // Returns the region that the parameters (an object, or none) of the tensor `field` name. Throws RequestError.
    std::optional<Region> find_region(const std::optional<JsonValue>& parameters, std::string_view field) const;
};

// Returns a copy of a region's bytes, aligned and writable. Throws RequestError.
Buffer read_region(const Region& region, std::string_view field);
// Writes an array to the beginning of a region; returns the part that it took. Throws RequestError.
Region write_region(const Region& region, const Array& array, std::string_view field);

}  // namespace opserve::native
