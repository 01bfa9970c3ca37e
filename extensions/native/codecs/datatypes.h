// The datatypes of the Open Inference Protocol: handlers/codecs/datatypes.py.
#pragma once

#include <optional>
#include <string_view>

#include "../common/array.h"

namespace opserve::native {

struct Datatype {
    std::string_view name;
    DType dtype;  // of the values; of BF16, which is the upper half of a float32, that
    bool is_bfloat16 = false;

    // Bytes of one value as the protocol sends it.
    size_t size() const { return is_bfloat16 ? 2 : item_size(dtype); }
};

// Returns the datatype with this name, or null.
const Datatype* find_datatype(std::string_view name);
// Returns the name of the datatype that has this dtype.
std::string_view datatype_name(DType dtype);
// All names, as messages list them.
inline constexpr std::string_view kDatatypeNames =
    "BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16";

}  // namespace opserve::native
