// TorchScript (`.pt`), frozen and optimised for inference if the configuration says so:
// handlers/engines/torchscript.py.
#include <ATen/core/Dict.h>

#include <vector>

#include "errors.h"
#include "script.h"
#include "torch_engine.h"

namespace opserve::native {
namespace {

// The name that Python has for the type of a value.
std::string type_name(const c10::IValue& value) {
    if (value.isTensor()) return "Tensor";
    if (value.isNone()) return "NoneType";
    if (value.isBool()) return "bool";
    if (value.isInt()) return "int";
    if (value.isDouble()) return "float";
    if (value.isString()) return "str";
    if (value.isTuple()) return "tuple";
    if (value.isList()) return "list";
    if (value.isGenericDict()) return "dict";
    return value.tagKind();
}

// Returns what follows "Unknown builtin op: " in a message, or nothing.
std::string find_missing_operator(const std::string& text) {
    constexpr std::string_view kMark = "nknown builtin op: ";
    const size_t mark = text.find(kMark);
    if (mark == text.npos) return {};
    std::string name = text.substr(mark + kMark.size());
    name.resize(std::min(name.find_first_of(" \t\r\n"), name.size()));
    if (name.ends_with('.')) name.pop_back();
    return name;
}

torch::jit::Module read_module(const std::filesystem::path& path, const ModelConfig& config,
                               c10::Device device) {
    const std::string file = path.filename().string();
    torch::jit::Module module;
    try {
        module = load_module(path.string(), device);
    } catch (const std::exception& error) {
        const std::string text = error_text(error);
        if (const std::string missing = find_missing_operator(text); !missing.empty()) {
            throw ModelError(file + ": it needs the operator " + missing +
                             ", which no library under op_libraries registers; add the library that does");
        }
        throw ModelError(file + ": not a TorchScript model that can be read: " + first_line(text));
    }
    try {
        if (config.freeze) module = torch::jit::freeze(module);
        if (config.optimize_for_inference) module = torch::jit::optimize_for_inference(module);
    } catch (const std::exception& error) {
        throw ModelError(file + ": it cannot be frozen or optimised for inference: " +
                         first_line(error_text(error)) + "; take freeze and optimize_for_inference out");
    }
    if (!module.find_method("forward")) {
        throw ModelError(file + ": not a TorchScript model that can be read: it has no method forward");
    }
    return module;
}

class TorchScriptEngine final : public TorchEngine {
  public:
    TorchScriptEngine(const std::filesystem::path& folder, const ModelConfig& config,
                      std::optional<int> device_index)
        : TorchEngine(folder, config, device_index, "TorchScript"),
          module_(read_module(artifact_path(folder, config), config, device_)),
          forward_(module_, "forward") {}

  private:
    Arrays call(const Arrays& inputs) override {
        std::vector<c10::IValue>& arguments = forward_.begin();
        // In the order of the signature; an absent optional input is None.
        for (const TensorSpec& spec : config_.inputs) {
            const Array* array = find(inputs, spec.name);
            if (array == nullptr) {
                arguments.emplace_back();
            } else {
                arguments.emplace_back(input(*array));
            }
        }
        return name_outputs(forward_.call());
    }

    Arrays name_outputs(const c10::IValue& returned) {
        values_.clear();
        if (returned.isTensor()) {
            values_.push_back(returned.toTensor());
        } else if (returned.isTuple()) {
            for (const c10::IValue& each : returned.toTupleRef().elements()) take(each);
        } else if (returned.isGenericDict()) {
            take_by_name(returned.toGenericDict());
        } else if (returned.isList()) {
            for (const c10::IValue& each : returned.toListRef()) take(each);
        }
        if (values_.size() != config_.outputs.size() ||
            !std::all_of(values_.begin(), values_.end(),
                         [](const at::Tensor& each) { return each.defined(); })) {
            throw wrong_outputs(describe(returned));
        }
        Arrays outputs = make_outputs(values_);
        values_.clear();
        return outputs;
    }

    void take(const c10::IValue& value) {
        values_.push_back(value.isTensor() ? value.toTensor() : at::Tensor());
    }

    void take_by_name(const c10::impl::GenericDict& dictionary) {
        if (dictionary.size() != config_.outputs.size()) return;
        for (const TensorSpec& spec : config_.outputs) {
            for (const auto& entry : dictionary) {
                if (entry.key().isString() && entry.key().toStringRef() == spec.name) take(entry.value());
            }
        }
    }

    static std::string describe(const c10::IValue& returned) {
        const auto join = [](const auto& values, const auto& text) {
            std::string all;
            for (const auto& each : values) all += (all.empty() ? "" : ", ") + text(each);
            return all;
        };
        const auto count = [](size_t number) { return std::to_string(number) + " value(s): "; };
        if (returned.isGenericDict()) {
            return "a dictionary of " + join(returned.toGenericDict(), [](const auto& entry) {
                       return entry.key().isString() ? entry.key().toStringRef() : type_name(entry.key());
                   });
        }
        if (returned.isTuple()) {
            const auto& elements = returned.toTupleRef().elements();
            return count(elements.size()) + join(elements, type_name);
        }
        if (returned.isList()) {
            const auto elements = returned.toListRef();
            return count(elements.size()) + join(elements, type_name);
        }
        return type_name(returned);
    }

    torch::jit::Module module_;
    ScriptMethod forward_;
    std::vector<at::Tensor> values_;
};

}  // namespace

std::unique_ptr<Engine> load_torchscript(const std::filesystem::path& folder, const ModelConfig& config,
                                         std::optional<int> device_index) {
    return std::make_unique<TorchScriptEngine>(folder, config, device_index);
}

}  // namespace opserve::native
