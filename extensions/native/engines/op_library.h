// Shared libraries with operators: selecting those that a worker opens and checking the files, as
// handlers/engines/op_library.py does. It knows no runtime.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "../common/errors.h"

namespace opserve::native {

// Returns the libraries of an archive that a worker opens. If there are both NAME.so and NAME_cuda.so, the
// second is for workers on a GPU only: after the first, or instead of it if it has the operators for the CPU
// too (`cuda_replaces`).
std::vector<std::string> select_libraries(const std::vector<std::string>& libraries, bool gpu,
                                          bool cuda_replaces);

// Returns why a file cannot be a whole shared library: opening a truncated one ends the process.
std::optional<std::string> find_corruption(const std::filesystem::path& path);

// Throws ModelError for a library that is missing or damaged.
void check_library(const std::filesystem::path& path);

// Opens a library, which stays open until the process ends. Returns the loader's reason if it does not open.
std::optional<std::string> open_library(const std::filesystem::path& path);

// The error for a library that exists and does not load.
ModelError load_error(const std::filesystem::path& path, std::string_view reason);

}  // namespace opserve::native
