// The runtimes that this worker can open, found without opening them: beside the program, in the environment
// that it was installed into, or where it was built against them.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace opserve::native {

// Throw ModelError: it is not installed here.
std::string torch_version();
std::string onnxruntime_version();

// Whether the PyTorch here can use a GPU.
bool torch_has_cuda();

// The compute capability of a GPU as its driver says, or nothing without a driver or such a GPU.
std::optional<std::pair<int, int>> gpu_capability(int index);

}  // namespace opserve::native
