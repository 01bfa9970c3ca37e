#include "script_model.h"

#include <ATen/core/function_schema.h>
#include <c10/core/InferenceMode.h>
#include <torch/cuda.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

#include "engines/op_library.h"
#include "engines/torch/errors.h"
#include "engines/torch/script.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// Returns why a file cannot be opened for reading; empty if it can.
std::string unreadable(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) return "no such file";
    if (fs::is_directory(status)) return "is a folder";
    errno = 0;
    if (!std::ifstream(path, std::ios::binary)) return std::strerror(errno);
    return {};
}

std::string describe_signature(const torch::jit::Method& method) {
    std::string text;
    for (const c10::Argument& argument : method.function().getSchema().arguments()) {
        if (argument.name() == "self") continue;
        if (!text.empty()) text += ", ";
        text += argument.name() + ": " + argument.type()->annotation_str();
        if (argument.default_value().has_value()) text += " = …";
    }
    return text;
}

c10::IValue as_argument(const at::Tensor& tensor, const c10::Argument& argument, c10::Device device) {
    c10::TypePtr type = argument.type();
    if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
    if (type->kind() == c10::TypeKind::TensorType) return tensor.to(device);
    if (tensor.numel() == 1) {
        const bool integral = c10::isIntegralType(tensor.scalar_type(), /*includeBool=*/true);
        switch (type->kind()) {
            case c10::TypeKind::IntType:
                if (integral) return tensor.item().toLong();
                break;
            case c10::TypeKind::FloatType:
                if (!tensor.is_complex()) return tensor.item().toDouble();
                break;
            case c10::TypeKind::BoolType:
                if (tensor.scalar_type() == at::kBool) return tensor.item().toBool();
                break;
            default:
                break;
        }
    }
    throw Error("argument " + quoted(argument.name()) + " must be of type " +
                argument.type()->annotation_str() + ", got an array of " +
                c10::toString(tensor.scalar_type()) + " with " + std::to_string(tensor.numel()) +
                " elements");
}

void flatten_into(const c10::IValue& value, const std::string& name, std::vector<NamedTensor>& out) {
    const std::string prefix = name.empty() ? "output" : name + ".";
    if (value.isTensor()) {
        out.emplace_back(name.empty() ? "output" : name, value.toTensor());
    } else if (value.isBool() || value.isInt() || value.isDouble()) {
        const c10::ScalarType dtype = value.isBool() ? at::kBool : value.isInt() ? at::kLong : at::kDouble;
        out.emplace_back(name.empty() ? "output" : name, at::scalar_tensor(value.toScalar(), dtype));
    } else if (value.isTuple()) {
        const auto tuple = value.toTuple();
        const auto schema = tuple->type()->schema();
        for (size_t i = 0; i < tuple->elements().size(); ++i) {
            const std::string key = schema == nullptr ? prefix + std::to_string(i)
                                    : name.empty()    ? schema->arguments()[i].name()
                                                      : prefix + schema->arguments()[i].name();
            flatten_into(tuple->elements()[i], key, out);
        }
    } else if (value.isList()) {
        const auto list = value.toListRef();
        for (size_t i = 0; i < list.size(); ++i) flatten_into(list[i], prefix + std::to_string(i), out);
    } else if (value.isGenericDict()) {
        for (const auto& entry : value.toGenericDict()) {
            if (!entry.key().isString())
                throw Error("the model returns a dictionary whose keys are not strings");
            const std::string& key = entry.key().toStringRef();
            flatten_into(entry.value(), name.empty() ? key : prefix + key, out);
        }
    } else if (!value.isNone()) {
        throw Error("the model returns a " + value.tagKind() + ", not tensors and numbers");
    }
}

}  // namespace

std::string one_line(const std::exception& error) {
    const std::string text = error_text(error);
    // TorchScript puts the exception's own line last, after "RuntimeError: " or "builtins.ValueError: ".
    std::string_view line;
    const bool traceback = text.find("Traceback of TorchScript") != std::string::npos;
    size_t begin = 0;
    if (traceback) {
        for (const std::string_view mark : {"RuntimeError: ", "Error: "}) {
            const size_t found = text.rfind(mark);
            if (found == std::string::npos) continue;
            begin = found + mark.size();
            break;
        }
    }
    while (begin < text.size() && line.empty()) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        line = std::string_view(text).substr(begin, end - begin);
        begin = end + 1;
    }
    return line.empty() ? "unknown error" : std::string(line);
}

void load_library(const std::string& name) {
    const std::string where = "cannot open operator library " + name + ": ";
    if (const std::string reason = unreadable(name); !reason.empty()) throw Error(where + reason);
    if (find_corruption(name)) throw Error(where + "not a complete 64-bit ELF file");
    std::optional<std::string> reason;
    try {
        reason = open_library(name);
    } catch (const std::exception& error) {
        // From the library's initialization: for example, an operator that already exists.
        reason = one_line(error);
    }
    if (reason) throw Error(where + *reason);
}

c10::Device parse_device(const std::string& name) {
    try {
        const c10::Device device(name);
        if (device.is_cpu()) return device;
        if (device.is_cuda()) {
            const int64_t count = torch::cuda::is_available() ? torch::cuda::device_count() : 0;
            if (device.has_index() ? device.index() < count : count > 0) return device;
            throw Error("device " + quoted(name) + " is not available: this LibTorch sees " +
                        std::to_string(count) + " CUDA devices");
        }
    } catch (const c10::Error&) {
        // Not a device.
    }
    throw Error("unknown device " + quoted(name) + ": it must be cpu, cuda or cuda:N");
}

Model::Model(const std::string& path, c10::Device device) : device_(device) {
    const std::string where = "cannot load model " + path + ": ";
    if (const std::string reason = unreadable(path); !reason.empty()) throw Error(where + reason);
    try {
        module_ = load_module(path, device);
        const auto method = module_.find_method("forward");
        if (!method.has_value()) throw Error("it has no method forward");
        signature_ = describe_signature(*method);
    } catch (const std::exception& error) {
        std::string reason = one_line(error);
        if (reason.find("Unknown builtin op") != std::string::npos) {
            reason += " Was the library that contains it opened first?";
        }
        throw Error(where + reason);
    }
}

std::vector<c10::IValue> Model::bind(const std::vector<NamedTensor>& tensors) const {
    const torch::jit::Method forward = module_.get_method("forward");
    // Without the module itself.
    const auto arguments = c10::ArrayRef<c10::Argument>(forward.function().getSchema().arguments()).slice(1);
    const auto position = [&](const std::string& name) {
        return std::find_if(arguments.begin(), arguments.end(),
                            [&](const c10::Argument& argument) { return argument.name() == name; }) -
               arguments.begin();
    };
    std::set<std::string> names;
    for (const auto& [name, tensor] : tensors) {
        if (static_cast<size_t>(position(name)) < arguments.size()) names.insert(name);
    }
    const bool by_name = names.size() == tensors.size();
    if (tensors.size() > arguments.size()) {
        throw Error("the model takes (" + signature_ + "), got " + std::to_string(tensors.size()) +
                    " inputs");
    }
    std::vector<const at::Tensor*> given(arguments.size(), nullptr);
    for (size_t i = 0; i < tensors.size(); ++i) {
        given[by_name ? position(tensors[i].first) : i] = &tensors[i].second;
    }
    std::vector<c10::IValue> inputs;
    for (size_t i = 0; i < arguments.size(); ++i) {
        if (given[i] != nullptr) {
            inputs.push_back(as_argument(*given[i], arguments[i], device_));
        } else if (arguments[i].default_value().has_value()) {
            inputs.push_back(*arguments[i].default_value());
        } else {
            throw Error("the model takes (" + signature_ + "), got no input for " +
                        quoted(arguments[i].name()));
        }
    }
    return inputs;
}

c10::IValue Model::run(std::vector<c10::IValue> inputs) {
    const c10::InferenceMode guard;
    try {
        return module_.forward(std::move(inputs));
    } catch (const std::exception& error) {
        throw Error(one_line(error));
    }
}

void Model::synchronize() const {
    if (device_.is_cuda()) torch::cuda::synchronize(device_.index());
}

std::vector<NamedTensor> flatten(const c10::IValue& result) {
    std::vector<NamedTensor> out;
    flatten_into(result, "", out);
    std::set<std::string> names;
    for (const auto& [name, tensor] : out) {
        if (!names.insert(name).second) throw Error("the model returns two values named " + quoted(name));
    }
    return out;
}

}  // namespace opserve::native
