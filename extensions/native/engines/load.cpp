#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include <string>

#include "engine.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

// The folder of the engines' libraries, next to that of this program. Links to the program are followed.
fs::path library_folder() {
    char path[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    if (length <= 0 || length == sizeof(path))
        throw ModelError("the folder of the worker is not known: is /proc mounted?");
    return fs::path(std::string(path, static_cast<size_t>(length))).parent_path().parent_path() / "lib";
}

// Opens a library of ours, for the rest of the process, and returns what it exports under a name.
template <typename Function>
Function find_export(const char* library, const char* name) {
    const fs::path path = library_folder() / library;
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* symbol = handle == nullptr ? nullptr : dlsym(handle, name);
    if (symbol == nullptr) throw ModelError(std::string("the worker's engine does not load: ") + dlerror());
    return reinterpret_cast<Function>(symbol);
}

constexpr const char* kTorch = "libopserve_engine_torch.so";
constexpr const char* kOnnxRuntime = "libopserve_engine_onnxruntime.so";

}  // namespace

std::unique_ptr<Engine> load_engine(const fs::path& folder, const ModelConfig& config,
                                    std::optional<int> device_index) {
    const std::string suffix = fs::path(config.artifact).extension().string();
    const char* library = suffix == ".pt" || suffix == ".pt2" ? kTorch
                          : suffix == ".onnx"                 ? kOnnxRuntime
                                                              : nullptr;
    if (library == nullptr) {
        throw ModelError(config.artifact + ": no engine for this format; there are .pt, .pt2 and .onnx");
    }
    return std::unique_ptr<Engine>(
        find_export<OpenEngine>(library, kOpenEngine)(folder, config, device_index));
}

std::unique_ptr<Hooks> load_hooks(const fs::path& folder, const ModelConfig& config) {
    const fs::path path = folder / config.hooks.value();
    if (!fs::is_regular_file(path)) {
        throw ModelError(path.filename().string() + ": the hooks are not in " + path.parent_path().string());
    }
    if (path.extension() != ".pt") {
        throw ModelError(path.filename().string() +
                         ": hooks in Python need the Python worker; pack the model with RUNTIME=python, or "
                         "write them as a "
                         "TorchScript module");
    }
    return std::unique_ptr<Hooks>(find_export<OpenHooks>(kTorch, kOpenHooks)(folder, config));
}

fs::path artifact_path(const fs::path& folder, const ModelConfig& config) {
    fs::path path = folder / config.artifact;
    if (!fs::is_regular_file(path)) {
        throw ModelError(path.filename().string() + ": the artifact is not in " +
                         path.parent_path().string());
    }
    return path;
}

ModelError missing_gpu_error(std::string_view cause) {
    return ModelError("device: cuda is asked for and " + std::string(cause) +
                      "; use device: auto or cpu to run on the processor");
}

}  // namespace opserve::native
