// Tensors in memory that a client on the same host shares: handlers/codecs/shared_memory.py.
//
// The client may change or shorten a region at any time, so bytes are copied by read and write calls:
// touching a page of a mapping whose file was shortened ends the process with SIGBUS, and an index that was
// checked must not change before it is followed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "../common/array.h"
#include "json.h"
#include "request.h"

namespace opserve::native {

// Names of parameters in the Open Inference Protocol.
inline constexpr std::string_view kRegionParameter = "shared_memory_region";
inline constexpr std::string_view kRegionSizeParameter = "shared_memory_byte_size";
inline constexpr std::string_view kRegionOffsetParameter = "shared_memory_offset";

// Some bytes of the shared memory that a request names by its POSIX key: "opserve-a1" is what
// shm_open("/opserve-a1") opens.
struct Region {
    std::string key;
    int64_t offset = 0, size = 0;
};

struct SharedMemory {
    std::optional<std::string> prefix;  // of the keys; without one there are none
    int64_t max_bytes = int64_t{1} << 28;

    // Returns the region that the parameters (an object, or none) of the tensor `field` name, if they name
    // one. Throws RequestError: shared memory is off, the key does not begin with the prefix, or a number is
    // not one.
    std::optional<Region> find_region(const std::optional<JsonValue>& parameters,
                                      std::string_view field) const;
};

// Returns a copy of a region's bytes, aligned and writable. Throws RequestError: there is no such region, it
// is a link or not memory, or it ends before these bytes do.
Buffer read_region(const Region& region, std::string_view field);
// Writes an array in C order to the beginning of a region; returns the part that it took. Throws
// RequestError: as for reading, or the array is larger than the region.
Region write_region(const Region& region, const Array& array, std::string_view field);

}  // namespace opserve::native
