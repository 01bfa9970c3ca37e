#include "torch_engine.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <fstream>
#include <new>
#include <stdexcept>

#include "../classify.h"
#include "../op_library.h"
#include "errors.h"
#include "tensors.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

void load_op_library(const fs::path& path) {
    check_library(path);
    std::optional<std::string> reason;
    try {
        reason = open_library(path);
    } catch (const std::exception& error) {
        // From the library's initialization: for example, an operator that already exists.
        reason = first_line(error_text(error));
    }
    if (!reason) return;
    const std::string prefix = fs::absolute(path).string() + ": ";
    for (size_t at = reason->find(prefix); at != reason->npos; at = reason->find(prefix))
        reason->erase(at, prefix.size());
    throw load_error(path, *reason);
}

// "2.13.0+cpu": only the package's Python code knows what follows the "+".
std::string find_version() {
    Dl_info found;
    if (dladdr(reinterpret_cast<void*>(&at::get_num_threads), &found) != 0 && found.dli_fname != nullptr) {
        std::ifstream file(fs::path(found.dli_fname).parent_path().parent_path() / "version.py");
        constexpr std::string_view kMark = "__version__ = '";
        for (std::string line; std::getline(file, line);) {
            if (line.starts_with(kMark) && line.ends_with("'") && line.size() > kMark.size()) {
                return line.substr(kMark.size(), line.size() - kMark.size() - 1);
            }
        }
    }
    return TORCH_VERSION;
}

}  // namespace

c10::Device select_device(const std::string& wanted, std::optional<int> device_index) {
    if (wanted == "cpu") return c10::kCPU;
    const bool available = torch::cuda::is_available();
    if (available && device_index) return {c10::kCUDA, static_cast<c10::DeviceIndex>(*device_index)};
    if (wanted == "cuda") {
        throw missing_gpu_error(available ? "the server gave this worker no GPU" : "PyTorch sees no GPU");
    }
    return c10::kCPU;
}

TorchEngine::TorchEngine(const fs::path& folder, const ModelConfig& config, std::optional<int> device_index,
                         std::string format)
    : config_(config),
      device_(select_device(config.device, device_index)),
      device_name_(device_.str()),
      format_(std::move(format)),
      runtime_("PyTorch " + find_version()) {
    at::set_num_threads(config.threads);
    for (const std::string& library : select_libraries(config.op_libraries, !device_.is_cpu(), false)) {
        load_op_library(folder / library);
    }
}

Arrays TorchEngine::run(const Arrays& inputs) {
    const c10::InferenceMode guard;
    try {
        return call(inputs);
    } catch (const std::exception& error) {
        rethrow(error);
    }
}

void TorchEngine::rethrow(const std::exception& error) const {
    if (dynamic_cast<const ModelError*>(&error) != nullptr) throw;
    const std::string text = error_text(error);
    if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
        dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) {
        throw OutOfMemoryError(last_line(text));
    }
    if (device_.is_cpu()) {
        throw_classified(text, nullptr);
    } else {
        if (dynamic_cast<const c10::AcceleratorError*>(&error) != nullptr) throw DeviceError(last_line(text));
        throw_classified(text, [this] {
            try {
                torch::cuda::synchronize(device_.index());
            } catch (const std::exception& failure) {
                throw std::runtime_error(error_text(failure));
            }
        });
    }
    // Without PyTorch's types: the other rooms do not know them.
    throw std::runtime_error(text);
}

at::Tensor TorchEngine::input(const Array& array) const {
    at::Tensor tensor = to_tensor(array);
    return device_.is_cpu() ? tensor : tensor.to(device_);
}

// Arrays are never complex, so that check_outputs does not get to see this one.
ModelError TorchEngine::complex_output(const at::Tensor& tensor, const TensorSpec& spec) const {
    c10::IntArrayRef sizes = tensor.sizes();
    // Of one request.
    if (config_.batching == Batching::kStack && !sizes.empty()) sizes = sizes.slice(1);
    std::string shape;
    for (const int64_t size : sizes) shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    return ModelError("output '" + spec.name + "' is " + dtype_name(tensor.scalar_type()) + " [" + shape +
                      "]; its signature promises " + spec.describe());
}

Arrays TorchEngine::make_outputs(std::span<const at::Tensor> values) const {
    Arrays outputs;
    outputs.reserve(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
        const TensorSpec& spec = config_.outputs[i];
        const at::Tensor tensor = values[i].cpu();
        if (tensor.is_complex()) throw complex_output(tensor, spec);
        outputs.push_back({spec.name, to_array(tensor)});
    }
    return outputs;
}

ModelError TorchEngine::wrong_outputs(const std::string& returned) const {
    std::string names;
    for (const TensorSpec& spec : config_.outputs) names += (names.empty() ? "" : ", ") + spec.name;
    return ModelError(config_.artifact + " returned " + returned + "; its signature promises the tensors " +
                      names);
}

}  // namespace opserve::native
