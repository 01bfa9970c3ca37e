// What the library of PyTorch's engines exports.
#include "torch_engine.h"

namespace opserve::native {

OPSERVE_ENGINE_EXPORT Engine* opserve_open_engine(const std::filesystem::path& folder,
                                                  const ModelConfig& config,
                                                  std::optional<int> device_index) {
    const bool scripted = std::filesystem::path(config.artifact).extension() == ".pt";
    return (scripted ? load_torchscript : load_compiled)(folder, config, device_index).release();
}

OPSERVE_ENGINE_EXPORT Hooks* opserve_open_hooks(const std::filesystem::path& folder,
                                                const ModelConfig& config) {
    return load_script_hooks(folder, config).release();
}

}  // namespace opserve::native
