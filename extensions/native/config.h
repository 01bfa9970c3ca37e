// The configuration of an archive: model-config.json, which the packer writes from model-config.yaml once it
// is checked (handlers/config.py), so that no worker parses YAML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "codecs/budget.h"
#include "codecs/shared_memory.h"
#include "signature/signature.h"

namespace opserve::native {

inline constexpr const char* kConfigFile = "model-config.json";

enum class Batching { kNone, kStack, kGraph };

// The inputs that make a graph in CSR form: `batching: graph` knows them by name.
inline constexpr std::string_view kRowptr = "rowptr", kCol = "col", kValue = "value";

struct ModelConfig {
    std::string artifact;
    Signature inputs, outputs;
    std::vector<std::string> op_libraries;
    std::string device = "auto";  // auto, cpu, cuda
    int threads = 1;
    std::optional<std::string> profile, hooks;
    Batching batching = Batching::kNone;
    Limits limits;
    SharedMemory memory;
    bool warm_up = true, freeze = false, optimize_for_inference = false;
    std::string graph_optimization = "all";
    std::vector<std::pair<std::string, std::variant<std::string, int64_t>>> provider_options;
    double tolerance = 1e-5;

    // Reads one JSON object with every key of the `opserve:` section, `threads` as a number or "auto". Throws
    // ModelError with the path: the file cannot be read, is not JSON, lacks a key, has an unknown one, or a
    // value that is not allowed.
    static ModelConfig read(const std::filesystem::path& path);
};

// "none", "stack" or "graph".
std::string_view name(Batching batching);

}  // namespace opserve::native
