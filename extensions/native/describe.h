// The description of a model for the management API and the log, as handlers/model.py has it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config.h"
#include "engines/engine.h"

namespace opserve::native {

// A file of the archive and the SHA-256 of its content.
using Hashes = std::vector<std::pair<std::string, std::string>>;

// Returns the hash of each operator library. Throws ModelError: one cannot be read.
Hashes hash_libraries(const std::filesystem::path& folder, const ModelConfig& config);

// Returns the members of a JSON object, without its braces.
std::string describe_model(const ModelConfig& config, const Engine& engine, const Hashes& libraries);

}  // namespace opserve::native
