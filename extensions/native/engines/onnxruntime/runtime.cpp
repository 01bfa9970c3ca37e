#include "runtime.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "../../common/errors.h"

namespace opserve::native::ort {
namespace {

namespace fs = std::filesystem;

// Where the build found the library; its name contains its version.
const fs::path kLibrary = OPSERVE_ONNXRUNTIME_LIBRARY;

std::vector<fs::path> list(const fs::path& folder) {
    std::vector<fs::path> paths;
    std::error_code error;
    for (fs::directory_iterator each(folder, error), end; !error && each != end; each.increment(error)) {
        paths.push_back(each->path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

// The package may have been replaced by another version since the build.
fs::path find_library() {
    std::error_code error;
    if (fs::exists(kLibrary, error)) return kLibrary;
    for (const fs::path& path : list(kLibrary.parent_path())) {
        if (path.filename().string().starts_with("libonnxruntime.so.")) return path;
    }
    throw ModelError("there is no ONNX Runtime in " + kLibrary.parent_path().string() +
                     "; install it, then run make ext");
}

Runtime open() {
    const fs::path path = find_library();
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* symbol = handle == nullptr ? nullptr : dlsym(handle, "OrtGetApiBase");
    if (symbol == nullptr) throw ModelError(std::string("ONNX Runtime does not load: ") + dlerror());
    const OrtApiBase* base = reinterpret_cast<const OrtApiBase* (*)()>(symbol)();
    Runtime runtime{base->GetApi(kApiVersion), base->GetVersionString(), nullptr, nullptr};
    if (runtime.api == nullptr) {
        throw ModelError("ONNX Runtime " + runtime.version + " is too old for this worker, which needs 1." +
                         std::to_string(kApiVersion));
    }
    OrtStatus* status = runtime.api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "opserve", &runtime.environment);
    if (status == nullptr) {
        status = runtime.api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &runtime.cpu_memory);
    }
    if (status != nullptr) {
        throw ModelError(std::string("ONNX Runtime does not start: ") + runtime.api->GetErrorMessage(status));
    }
    return runtime;
}

std::string_view code_name(OrtErrorCode code) {
    constexpr std::array<std::string_view, 14> kNames = {"SUCCESS",
                                                         "FAIL",
                                                         "INVALID_ARGUMENT",
                                                         "NO_SUCHFILE",
                                                         "NO_MODEL",
                                                         "ENGINE_ERROR",
                                                         "RUNTIME_EXCEPTION",
                                                         "INVALID_PROTOBUF",
                                                         "MODEL_LOADED",
                                                         "NOT_IMPLEMENTED",
                                                         "INVALID_GRAPH",
                                                         "EP_FAIL",
                                                         "MODEL_LOAD_CANCELED",
                                                         "MODEL_REQUIRES_COMPILATION"};
    return code < kNames.size() ? kNames[code] : "GENERAL ERROR";
}

}  // namespace

const Runtime& runtime() {
    // Never released: other static objects may still use it.
    static const Runtime* const kRuntime = new Runtime(open());
    return *kRuntime;
}

void check(OrtStatus* status) {
    if (status == nullptr) return;
    const OrtApi& api = *runtime().api;
    const OrtErrorCode code = api.GetErrorCode(status);
    std::string text = "[ONNXRuntimeError] : " + std::to_string(code) + " : ";
    text.append(code_name(code)).append(" : ").append(api.GetErrorMessage(status));
    api.ReleaseStatus(status);
    throw std::runtime_error(text);
}

std::string reason(std::string_view text) {
    std::string line;
    for (size_t begin = 0; begin < text.size();) {
        constexpr std::string_view kSpaces = " \t\r\n\v\f";
        begin = std::min(text.find_first_not_of(kSpaces, begin), text.size());
        const size_t end = std::min(text.find_first_of(kSpaces, begin), text.size());
        if (end > begin && !line.empty()) line += ' ';
        line.append(text.substr(begin, end - begin));
        begin = end;
    }
    constexpr std::string_view kMark = "] : ";
    const size_t mark = line.find(kMark);
    return mark == line.npos || mark + kMark.size() == line.size() ? line : line.substr(mark + kMark.size());
}

void preload_cuda() {
    const fs::path packages = kLibrary.parent_path().parent_path().parent_path();
    // Each after those that it needs.
    for (const std::string_view name : {"libcublasLt.so.", "libcublas.so.", "libnvrtc.so.", "libcurand.so.",
                                        "libcufft.so.", "libcudart.so.", "libcudnn.so."}) {
        for (const fs::path& package : list(packages / "nvidia")) {
            for (const fs::path& path : list(package / "lib")) {
                if (path.filename().string().starts_with(name)) dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
            }
        }
    }
}

}  // namespace opserve::native::ort
