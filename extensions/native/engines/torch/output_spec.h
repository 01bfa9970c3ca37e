// How the tensors that a compiled model returns make up its result: the call specification of a package,
// which is a tree of PyTorch's pytree as JSON.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../../signature/signature.h"

namespace opserve::native {

struct OutputSpec {
    // For each output of the signature the place of its tensor; none if the result is not what the signature
    // promises.
    std::optional<std::vector<size_t>> places;
    // What the model returns, for the message about that: "2 value(s): Tensor, Tensor".
    std::string returned;
};

// Throws std::runtime_error if the text is not such a tree.
OutputSpec parse_output_spec(std::string_view json, const Signature& outputs);

}  // namespace opserve::native
