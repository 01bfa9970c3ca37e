#include "session.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "../../common/errors.h"
#include "../engine.h"
#include "../op_library.h"

namespace opserve::native::ort {
namespace {

namespace fs = std::filesystem;

constexpr const char *kCuda = "CUDAExecutionProvider", *kCpu = "CPUExecutionProvider";

struct Element {
    DType dtype;
    ONNXTensorElementDataType type;
    const char* name;
};
constexpr Element kElements[] = {
    {DType::kBool, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, "bool"},
    {DType::kUInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, "uint8"},
    {DType::kInt8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, "int8"},
    {DType::kUInt16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, "uint16"},
    {DType::kInt16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, "int16"},
    {DType::kUInt32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, "uint32"},
    {DType::kInt32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, "int32"},
    {DType::kUInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, "uint64"},
    {DType::kInt64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, "int64"},
    {DType::kFloat16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, "float16"},
    {DType::kFloat32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "float"},
    {DType::kFloat64, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, "double"},
};

bool has_cuda() {
    char** names = nullptr;
    int count = 0;
    check(runtime().api->GetAvailableProviders(&names, &count));
    const bool found =
        std::any_of(names, names + count, [](const char* name) { return std::string_view(name) == kCuda; });
    runtime().api->ReleaseAvailableProviders(names, count);
    return found;
}

// Whether the session is to run on the worker's GPU. Throws ModelError: `cuda` is required, and there is
// none.
bool wants_gpu(const ModelConfig& config, std::optional<int> device_index) {
    if (config.device == "cpu" || (config.device == "auto" && !device_index)) return false;
    if (device_index && has_cuda()) return true;
    if (config.device == "auto") return false;
    throw missing_gpu_error(device_index ? "this ONNX Runtime has no CUDA"
                                         : "the server gave this worker no GPU");
}

GraphOptimizationLevel optimization_level(const std::string& level) {
    if (level == "none") return ORT_DISABLE_ALL;
    if (level == "basic") return ORT_ENABLE_BASIC;
    if (level == "extended") return ORT_ENABLE_EXTENDED;
    return ORT_ENABLE_ALL;
}

void add_cuda(OrtSessionOptions* options, const ModelConfig& config, int device_index) {
    const OrtApi& api = *runtime().api;
    preload_cuda();
    OrtCUDAProviderOptionsV2* made = nullptr;
    check(api.CreateCUDAProviderOptions(&made));
    const CudaOptions cuda(made);
    std::vector<std::pair<std::string, std::string>> settings{{"device_id", std::to_string(device_index)}};
    for (const auto& [name, value] : config.provider_options) {
        const int64_t* number = std::get_if<int64_t>(&value);
        std::string text = number != nullptr ? std::to_string(*number) : std::get<std::string>(value);
        if (name == "device_id") {
            settings[0].second = std::move(text);
        } else {
            settings.emplace_back(name, std::move(text));
        }
    }
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : settings) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    check(api.UpdateCUDAProviderOptions(cuda.get(), keys.data(), values.data(), keys.size()));
    check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda.get()));
}

void add_operators(OrtSessionOptions* options, const fs::path& folder, const ModelConfig& config, bool gpu) {
    // A session takes one library per domain; the one for CUDA also has the operators for the CPU.
    for (const std::string& library : select_libraries(config.op_libraries, gpu, true)) {
        const fs::path path = folder / library;
        check_library(path);
        try {
            check(runtime().api->RegisterCustomOpsLibrary_V2(options, fs::canonical(path).c_str()));
        } catch (const std::exception& error) {
            throw load_error(path, reason(error.what()));
        }
    }
}

// A name of the session's, which the runtime allocates.
template <typename Get>
std::string take_name(Get&& get) {
    OrtAllocator* allocator = nullptr;
    check(runtime().api->GetAllocatorWithDefaultOptions(&allocator));
    char* name = nullptr;
    check(get(allocator, &name));
    std::string text(name);
    check(runtime().api->AllocatorFree(allocator, name));
    return text;
}

// A type such as "tensor(float)".
std::string describe_type(OrtTypeInfo* made) {
    const TypeInfo type(made);
    ONNXType kind = ONNX_TYPE_UNKNOWN;
    check(runtime().api->GetOnnxTypeFromTypeInfo(type.get(), &kind));
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    if (kind == ONNX_TYPE_TENSOR) check(runtime().api->CastTypeInfoToTensorInfo(type.get(), &info));
    if (info == nullptr) return "not a tensor";
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    check(runtime().api->GetTensorElementType(info, &element));
    return type_name(element);
}

using Nodes = std::vector<std::pair<std::string, std::string>>;  // names and types

// The functions about a session's inputs, or those about its outputs.
struct NodeFunctions {
    decltype(OrtApi::SessionGetInputCount) count;
    decltype(OrtApi::SessionGetInputTypeInfo) type;
    decltype(OrtApi::SessionGetInputName) name;
};

Nodes list_nodes(OrtSession* session, const NodeFunctions& functions) {
    size_t count = 0;
    check(functions.count(session, &count));
    Nodes nodes;
    for (size_t i = 0; i < count; ++i) {
        OrtTypeInfo* type = nullptr;
        check(functions.type(session, i, &type));
        nodes.emplace_back("", describe_type(type));
        nodes.back().first = take_name(
            [&](OrtAllocator* allocator, char** out) { return functions.name(session, i, allocator, out); });
    }
    return nodes;
}

// "['x', 'y']", sorted.
std::string describe_names(std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    std::string text = "[";
    for (const std::string& name : names) text += (text.size() > 1 ? ", '" : "'") + name + "'";
    return text + "]";
}

void check_nodes(const std::string& artifact, const std::string& kind, const Signature& specs,
                 const Nodes& nodes) {
    std::vector<std::string> wanted, given;
    for (const TensorSpec& spec : specs) wanted.push_back(spec.name);
    for (const auto& [name, type] : nodes) given.push_back(name);
    const std::string wanted_text = describe_names(wanted), given_text = describe_names(given);
    if (wanted_text != given_text) {
        throw ModelError(artifact + ": its " + kind + "s are " + given_text + ", the configuration says " +
                         wanted_text);
    }
    for (const TensorSpec& spec : specs) {
        const auto node = std::find_if(nodes.begin(), nodes.end(),
                                       [&](const auto& each) { return each.first == spec.name; });
        if (node->second == type_name(to_element_type(spec.dtype))) continue;
        throw ModelError(artifact + ": " + kind + " '" + spec.name + "' is " + node->second + ", not " +
                         std::string(name(spec.dtype)));
    }
}

}  // namespace

ONNXTensorElementDataType to_element_type(DType dtype) {
    const auto* found = std::find_if(std::begin(kElements), std::end(kElements),
                                     [&](const Element& each) { return each.dtype == dtype; });
    return found == std::end(kElements) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED : found->type;
}

std::optional<DType> to_dtype(ONNXTensorElementDataType type) {
    const auto* found = std::find_if(std::begin(kElements), std::end(kElements),
                                     [&](const Element& each) { return each.type == type; });
    if (found == std::end(kElements)) return std::nullopt;
    return found->dtype;
}

std::string type_name(ONNXTensorElementDataType type) {
    const auto* found = std::find_if(std::begin(kElements), std::end(kElements),
                                     [&](const Element& each) { return each.type == type; });
    std::string element = found != std::end(kElements)                     ? found->name
                          : type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING   ? "string"
                          : type == ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 ? "bfloat16"
                                                                           : std::to_string(type);
    return "tensor(" + element + ")";
}

OpenSession open_session(const fs::path& folder, const ModelConfig& config, std::optional<int> device_index) {
    const OrtApi& api = *runtime().api;
    OpenSession open;
    open.on_gpu = wants_gpu(config, device_index);
    OrtSessionOptions* made = nullptr;
    check(api.CreateSessionOptions(&made));
    const SessionOptions options(made);
    check(api.SetIntraOpNumThreads(options.get(), config.threads));
    check(api.SetInterOpNumThreads(options.get(), 1));
    check(api.SetSessionGraphOptimizationLevel(options.get(), optimization_level(config.graph_optimization)));
    check(api.SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_ERROR));
    if (config.device == "cuda")
        check(api.AddSessionConfigEntry(options.get(), "session.disable_cpu_ep_fallback", "1"));
    add_operators(options.get(), folder, config, open.on_gpu);
    if (open.on_gpu) {
        try {
            add_cuda(options.get(), config, *device_index);
            open.providers.emplace_back(kCuda);
        } catch (const std::exception& error) {
            if (config.device == "cuda") {
                throw ModelError("device: cuda is asked for and ONNX Runtime could not start on it: " +
                                 reason(error.what()));
            }
            open.on_gpu = false;
        }
    }
    open.providers.emplace_back(kCpu);
    const fs::path path = artifact_path(folder, config);
    OrtSession* session = nullptr;
    try {
        check(api.CreateSession(runtime().environment, path.c_str(), options.get(), &session));
    } catch (const std::exception& error) {
        throw ModelError(path.filename().string() +
                         ": ONNX Runtime does not load it: " + reason(error.what()));
    }
    open.session.reset(session);
    return open;
}

void check_signature(OrtSession* session, const ModelConfig& config) {
    const OrtApi& api = *runtime().api;
    const NodeFunctions inputs{api.SessionGetInputCount, api.SessionGetInputTypeInfo,
                               api.SessionGetInputName};
    const NodeFunctions outputs{api.SessionGetOutputCount, api.SessionGetOutputTypeInfo,
                                api.SessionGetOutputName};
    check_nodes(config.artifact, "input", config.inputs, list_nodes(session, inputs));
    check_nodes(config.artifact, "output", config.outputs, list_nodes(session, outputs));
}

}  // namespace opserve::native::ort
