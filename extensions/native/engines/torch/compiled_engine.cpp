// Packages of AOTInductor (`.pt2`): handlers/engines/exported.py. Exported programs, which have the same
// suffix, are run by PyTorch's Python code only.
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

#include "errors.h"
#include "output_spec.h"
#include "torch_engine.h"

namespace opserve::native {
namespace {

using torch::inductor::AOTIModelPackageLoader;

// Throws ModelError unless the file holds code that AOTInductor compiled, and its weights within it.
void check_compiled(const std::filesystem::path& path) {
    const std::string file = path.filename().string();
    std::vector<std::string> records;
    try {
        records = caffe2::serialize::PyTorchStreamReader(path.string()).getAllRecords();
    } catch (const std::exception& error) {
        throw ModelError(file + ": not a .pt2 file: " + first_line(error_text(error)));
    }
    const auto holds = [&](std::string_view part) {
        return std::any_of(records.begin(), records.end(),
                           [&](const std::string& name) { return name.find(part) != name.npos; });
    };
    if (!holds("data/aotinductor/")) {
        throw ModelError(
            file +
            ": an exported program needs the Python worker; pack the model with RUNTIME=python, or compile "
            "it with torch._inductor.aoti_compile_and_package");
    }
    if (holds("_weights_config.json")) {
        throw ModelError(file +
                         ": weights outside of the compiled code need the Python worker; pack the model with "
                         "RUNTIME=python, or compile it without package_constants_on_disk");
    }
}

// The first name of an operator in a text, such as "opserve::scaled_add" or "opserve.scaled_add"; nothing if
// there is none.
std::string find_operator(std::string_view text) {
    const auto skip = [text](size_t at, auto accepts) {
        while (at < text.size() && accepts(text[at])) ++at;
        return at;
    };
    const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = skip(begin, is_word);
        const size_t next = skip(end, [](char c) { return c == '.' || c == ':'; });
        const std::string_view domain = text.substr(begin, end - begin), mark = text.substr(end, next - end);
        const size_t last = skip(next, is_word);
        if (last > next &&
            ((domain.ends_with("opserve") && !mark.empty()) || (!domain.empty() && mark == "::"))) {
            return std::string(text.substr(begin, last - begin));
        }
        begin = std::max(end, begin + 1);
    }
    return {};
}

std::unique_ptr<AOTIModelPackageLoader> open_package(const std::filesystem::path& path, c10::Device device) {
    const std::string file = path.filename().string();
    check_compiled(path);
    try {
        // -1 is the current GPU, which is the first.
        const c10::DeviceIndex index =
            device.is_cpu() || device.index() == 0 ? c10::DeviceIndex{-1} : device.index();
        return std::make_unique<AOTIModelPackageLoader>(path.string(), "model", false, 1, index);
    } catch (const std::exception& error) {
        const std::string text = error_text(error), name = find_operator(text);
        const std::string hint =
            name.empty() ? "" : "; is the library that registers " + name + " under op_libraries?";
        throw ModelError(file + ": not a .pt2 file that can be loaded: " + last_line(text) + hint);
    }
}

class CompiledEngine final : public TorchEngine {
  public:
    CompiledEngine(const std::filesystem::path& folder, const ModelConfig& config,
                   std::optional<int> device_index)
        : TorchEngine(folder, config, device_index, "AOTInductor package"),
          model_(open_package(artifact_path(folder, config), device_)) {
        try {
            spec_ = parse_output_spec(model_->get_call_spec().at(1), config.outputs);
        } catch (const std::exception& error) {
            throw ModelError(config.artifact +
                             ": not a .pt2 file that can be loaded: " + last_line(error_text(error)));
        }
    }

  private:
    Arrays call(const Arrays& inputs) override {
        std::vector<at::Tensor> tensors;
        tensors.reserve(config_.inputs.size());
        // In the order of the signature; an absent optional input was None when the model was compiled.
        for (const TensorSpec& spec : config_.inputs) {
            if (const Array* array = find(inputs, spec.name)) tensors.push_back(input(*array));
        }
        const std::vector<at::Tensor> returned = model_->boxed_run(std::move(tensors));
        if (!spec_.places || returned.size() < spec_.places->size()) throw wrong_outputs(spec_.returned);
        std::vector<at::Tensor> values;
        values.reserve(spec_.places->size());
        for (const size_t place : *spec_.places) values.push_back(returned.at(place));
        return make_outputs(values);
    }

    std::unique_ptr<AOTIModelPackageLoader> model_;
    OutputSpec spec_;
};

}  // namespace

std::unique_ptr<Engine> load_compiled(const std::filesystem::path& folder, const ModelConfig& config,
                                      std::optional<int> device_index) {
    return std::make_unique<CompiledEngine>(folder, config, device_index);
}

}  // namespace opserve::native
