// The configuration of an archive: model-config.json, which the packer writes from model-config.yaml once it is checked
// (handlers/config.py), so that no worker parses YAML.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "codecs/budget.h"
#include "codecs/shared_memory.h"
#include "signature/signature.h"

namespace opserve::native {

enum class Batching { kNone, kStack, kGraph };

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

    // Throws ModelError.
    static ModelConfig read(const std::filesystem::path& path);
};

}  // namespace opserve::native
