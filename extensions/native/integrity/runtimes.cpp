#include "runtimes.h"

#include <dlfcn.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <vector>

#include "../common/errors.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

// The folders that may hold a Python package, in the order in which they are looked at.
std::vector<fs::path> candidates(const char* package, const char* built_against) {
    std::vector<fs::path> found;
    std::error_code error;
    // The program is ts/cpp/bin/model_worker_socket among the installed packages.
    const fs::path program = fs::read_symlink("/proc/self/exe", error);
    if (!error) {
        const fs::path packages = program.parent_path().parent_path().parent_path().parent_path();
        if (fs::is_directory(packages / package, error)) found.push_back(packages / package);
    }
    if (*built_against != '\0') found.emplace_back(built_against);
    return found;
}

#ifndef OPSERVE_TORCH_ROOT
#define OPSERVE_TORCH_ROOT ""
#endif
#ifndef OPSERVE_ONNXRUNTIME_ROOT
#define OPSERVE_ONNXRUNTIME_ROOT ""
#endif

std::vector<fs::path> torch_folders() { return candidates("torch", OPSERVE_TORCH_ROOT); }

// The value of `__version__ = '…'` in PyTorch's version.py.
std::string read_version(const fs::path& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("__version__")) continue;
        const size_t begin = line.find_first_of("'\"");
        if (begin == std::string::npos) break;
        const size_t end = line.find(line[begin], begin + 1);
        if (end == std::string::npos) break;
        return line.substr(begin + 1, end - begin - 1);
    }
    return {};
}

}  // namespace

std::string torch_version() {
    for (const fs::path& folder : torch_folders()) {
        std::string version = read_version(folder / "version.py");
        if (!version.empty()) return version;
    }
    throw ModelError("PyTorch is not installed here");
}

bool torch_has_cuda() {
    std::error_code error;
    for (const fs::path& folder : torch_folders())
        if (fs::exists(folder / "lib", error)) return fs::exists(folder / "lib" / "libtorch_cuda.so", error);
    return false;
}

std::string onnxruntime_version() {
    static constexpr std::string_view kLibrary = "libonnxruntime.so.";
    for (const fs::path& folder : candidates("onnxruntime", OPSERVE_ONNXRUNTIME_ROOT)) {
        std::error_code error;
        for (const fs::directory_entry& entry : fs::directory_iterator(folder / "capi", error)) {
            const std::string name = entry.path().filename().native();
            // Of the names that a library may have, that of its file has the whole version.
            if (name.starts_with(kLibrary) && name.find('.', kLibrary.size()) != std::string::npos)
                return name.substr(kLibrary.size());
        }
    }
    throw ModelError("ONNX Runtime is not installed here");
}

std::optional<std::pair<int, int>> gpu_capability(int index) {
    // Of the driver's library, which has no header without the CUDA toolkit.
    using Init = int (*)(unsigned);
    using GetDevice = int (*)(int*, int);
    using GetAttribute = int (*)(int*, int, int);
    constexpr int kMajor = 75, kMinor = 76;
    void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver == nullptr) return std::nullopt;
    const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
    const auto get_device = reinterpret_cast<GetDevice>(dlsym(driver, "cuDeviceGet"));
    const auto get_attribute = reinterpret_cast<GetAttribute>(dlsym(driver, "cuDeviceGetAttribute"));
    int device = 0, major = 0, minor = 0;
    if (init == nullptr || get_device == nullptr || get_attribute == nullptr || init(0) != 0 ||
        get_device(&device, index) != 0 || get_attribute(&major, kMajor, device) != 0 ||
        get_attribute(&minor, kMinor, device) != 0)
        return std::nullopt;
    return std::pair{major, minor};
}

}  // namespace opserve::native
