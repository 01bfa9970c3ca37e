// Hooks in TorchScript, as handlers/scripted_hooks.py runs them: methods of a module that turn a dictionary
// of tensors into another. A ValueError that one of them raises is its refusal of a request.
#include <ATen/Parallel.h>
#include <ATen/core/Dict.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/jit_exception.h>

#include <algorithm>
#include <new>
#include <stdexcept>

#include "errors.h"
#include "script.h"
#include "tensors.h"
#include "torch_engine.h"

namespace opserve::native {
namespace {

using TensorDict = c10::Dict<std::string, at::Tensor>;

constexpr const char* kDictionary = "Dict[str, Tensor]";
// As TorchScript writes the class of an exception that its code raises.
constexpr std::string_view kRefusal = "builtins.ValueError";

// What keeps an array of a hook alive: its tensor, and its name where the signature does not have it.
struct Made {
    std::shared_ptr<void> tensor;
    std::string name;
};

void check_schema(const std::string& where, const c10::FunctionSchema& schema) {
    const auto is_dictionary = [](const c10::Argument& each) {
        return each.type()->annotation_str() == kDictionary;
    };
    const bool takes = schema.arguments().size() == 2 && is_dictionary(schema.arguments()[1]);
    const bool returns = schema.returns().size() == 1 && is_dictionary(schema.returns()[0]);
    if (!takes || !returns) throw ModelError(where + " must take a " + kDictionary + " and return one");
}

torch::jit::Module read_hooks(const std::filesystem::path& path) {
    try {
        return load_module(path.string(), c10::kCPU);
    } catch (const std::exception& error) {
        throw ModelError(path.filename().string() +
                         ": not hooks in TorchScript that can be read: " + first_line(error_text(error)));
    }
}

class ScriptHooks final : public Hooks {
  public:
    ScriptHooks(const std::filesystem::path& path, const ModelConfig& config)
        : config_(config), module_(read_hooks(path)) {
        // The engine has set it if it runs on PyTorch too.
        at::set_num_threads(config.threads);
        const std::string file = path.filename().string();
        for (const auto& [name, method] :
             {std::pair{"preprocess", &preprocess_}, std::pair{"postprocess", &postprocess_}}) {
            if (!module_.find_method(name)) continue;
            method->emplace(module_, name);
            check_schema(file + ": " + name, (*method)->schema());
        }
        if (!preprocess_ && !postprocess_) {
            throw ModelError(file + ": defines neither preprocess(inputs) nor postprocess(outputs)");
        }
    }

    bool has_preprocess() const override { return preprocess_.has_value(); }
    bool has_postprocess() const override { return postprocess_.has_value(); }
    Arrays preprocess(const Arrays& inputs) override { return run(*preprocess_, "preprocess", inputs); }
    Arrays postprocess(const Arrays& outputs) override { return run(*postprocess_, "postprocess", outputs); }

  private:
    Arrays run(ScriptMethod& method, const char* name, const Arrays& arrays) {
        const c10::InferenceMode guard;
        try {
            TensorDict tensors;
            for (const auto& [key, array] : arrays) tensors.insert(std::string(key), to_tensor(array));
            method.begin().emplace_back(std::move(tensors));
            return make_arrays(name, method.call());
        } catch (const ModelError&) {
            throw;
        } catch (const torch::jit::JITException& error) {
            if (error.getPythonClassName() == kRefusal) refuse(error.getOriginalMsg().value_or(""));
            throw std::runtime_error(error_text(error));
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const c10::OutOfMemoryError& error) {
            throw OutOfMemoryError(error_text(error));
        } catch (const std::exception& error) {
            // Without PyTorch's types: the other rooms do not know them.
            throw std::runtime_error(error_text(error));
        }
    }

    Arrays make_arrays(const char* name, const c10::IValue& returned) const {
        Arrays arrays;
        for (const auto& entry : returned.toGenericDict()) {
            const std::string& key = entry.key().toStringRef();
            const at::Tensor tensor = entry.value().toTensor();
            if (!to_dtype(tensor.scalar_type())) {
                throw ModelError(std::string(name) + " returned a tensor of " +
                                 dtype_name(tensor.scalar_type()) + " for '" + key +
                                 "', which no array can be");
            }
            Array array = to_array(tensor);
            const auto made = std::make_shared<Made>(std::move(array.owner), key);
            array.owner = made;
            arrays.push_back({made->name, std::move(array)});
        }
        return arrays;
    }

    [[noreturn]] void refuse(const std::string& message) const {
        std::optional<std::string_view> field;
        if (message.starts_with('\'')) {
            const size_t end = message.find('\'', 1);
            const std::string_view quoted =
                std::string_view(message).substr(1, end == message.npos ? 0 : end - 1);
            for (const TensorSpec& spec : config_.inputs) {
                if (spec.name == quoted) field = quoted;
            }
        }
        throw RequestError(message, field);
    }

    const ModelConfig& config_;
    torch::jit::Module module_;
    std::optional<ScriptMethod> preprocess_, postprocess_;
};

}  // namespace

std::unique_ptr<Hooks> load_script_hooks(const std::filesystem::path& folder, const ModelConfig& config) {
    return std::make_unique<ScriptHooks>(folder / config.hooks.value(), config);
}

}  // namespace opserve::native
