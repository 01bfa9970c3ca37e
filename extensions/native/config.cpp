#include "config.h"

#include <simdjson.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "common/errors.h"

namespace opserve::native {
namespace {

namespace dom = simdjson::dom;
using Type = dom::element_type;

// The value of `threads: auto`; `make start` sets it.
constexpr const char* kThreadsVariable = "OPSERVE_THREADS";

[[noreturn]] void refuse(const std::string& where, std::string_view expected, dom::element got) {
    throw ModelError(where + ": expected " + std::string(expected) + ", got " +
                     printable(simdjson::minify(got), 200));
}

// An object each of whose members is taken once.
class Section {
  public:
    Section(dom::element value, std::string where) : where_(std::move(where)) {
        if (value.type() != Type::OBJECT) refuse(where_, "an object", value);
        object_ = value.get_object().value_unsafe();
    }

    std::string where(std::string_view key) const { return where_ + "." + std::string(key); }

    // Throws ModelError if the key is missing.
    dom::element take(std::string_view key) {
        dom::element value;
        if (object_.at_key(key).get(value))
            throw ModelError(where_ + ": the key " + std::string(key) + " is missing");
        taken_.push_back(key);
        return value;
    }

    // Throws ModelError if a member was not taken.
    void finish() const {
        for (const auto& [key, value] : object_) {
            if (std::find(taken_.begin(), taken_.end(), key) == taken_.end()) {
                throw ModelError(where_ + ": unknown key " + printable(key, kMaxField));
            }
        }
        if (object_.size() != taken_.size()) throw ModelError(where_ + ": a key occurs twice");
    }

    std::string text(std::string_view key) {
        const dom::element value = take(key);
        if (value.type() != Type::STRING) refuse(where(key), "a text", value);
        return std::string(value.get_string().value_unsafe());
    }

    bool boolean(std::string_view key) {
        const dom::element value = take(key);
        if (value.type() != Type::BOOL) refuse(where(key), "true or false", value);
        return value.get_bool().value_unsafe();
    }

    int64_t positive(std::string_view key) {
        const dom::element value = take(key);
        int64_t number = 0;
        if (value.get_int64().get(number) || number < 1)
            refuse(where(key), "a whole number of 1 or more", value);
        return number;
    }

    std::string choice(std::string_view key, std::initializer_list<std::string_view> allowed) {
        const dom::element value = take(key);
        std::string_view text;
        if (!value.get_string().get(text) &&
            std::find(allowed.begin(), allowed.end(), text) != allowed.end()) {
            return std::string(text);
        }
        std::string expected = "one of ";
        for (const std::string_view each : allowed) expected.append(each).append(", ");
        refuse(where(key), expected.substr(0, expected.size() - 2), value);
    }

  private:
    dom::object object_;
    std::string where_;
    std::vector<std::string_view> taken_;
};

bool is_file_name(std::string_view text) {
    return !text.empty() && text != "." && text != ".." &&
           text.find_first_of(std::string_view("/\\\0", 3)) == text.npos;
}

std::string read_file_name(dom::element value, const std::string& where) {
    std::string_view text;
    if (value.get_string().get(text) || !is_file_name(text)) {
        refuse(where, "the name of a file next to the configuration", value);
    }
    return std::string(text);
}

std::optional<std::string> read_optional_file(Section& section, std::string_view key) {
    const dom::element value = section.take(key);
    if (value.is_null()) return std::nullopt;
    return read_file_name(value, section.where(key));
}

std::vector<std::string> read_files(Section& section, std::string_view key) {
    const dom::element value = section.take(key);
    if (value.type() != Type::ARRAY) refuse(section.where(key), "a list of file names", value);
    std::vector<std::string> files;
    const dom::array items = value.get_array().value_unsafe();
    for (const dom::element each : items) {
        files.push_back(read_file_name(each, section.where(key)));
        if (std::find(files.begin(), files.end() - 1, files.back()) != files.end() - 1) {
            refuse(section.where(key), "different file names", value);
        }
    }
    return files;
}

int read_threads(Section& section) {
    const dom::element value = section.take("threads");
    int64_t number = 0;
    std::string_view text;
    if (!value.get_int64().get(number) && number >= 1 && number <= INT_MAX) return static_cast<int>(number);
    if (value.get_string().get(text) || text != "auto") {
        refuse(section.where("threads"), "a whole number of 1 or more, or auto", value);
    }
    const char* variable = std::getenv(kThreadsVariable);
    const std::string_view given = variable == nullptr ? "1" : variable;
    // Nine digits are enough, and fit.
    const bool digits =
        !given.empty() && given.size() <= 9 && given.find_first_not_of("0123456789") == given.npos;
    const int threads = digits ? std::atoi(variable == nullptr ? "1" : variable) : 0;
    if (threads < 1) {
        throw ModelError(std::string(kThreadsVariable) + ": expected a number of threads, got '" +
                         printable(given, 100) + "'");
    }
    return threads;
}

std::optional<std::string> read_profile(Section& section) {
    const dom::element value = section.take("profile");
    std::string_view text;
    if (value.is_null()) return std::nullopt;
    if (value.get_string().get(text)) refuse(section.where("profile"), "a name or null", value);
    return std::string(text);
}

std::optional<std::string> read_key_prefix(Section& section) {
    const dom::element value = section.take("shared_memory");
    if (value.is_null()) return std::nullopt;
    std::string_view text;
    const auto is_allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '-' || c == '.';
    };
    if (value.get_string().get(text) || text.empty() || text.size() > 255 || text[0] == '.' ||
        !std::all_of(text.begin(), text.end(), is_allowed)) {
        refuse(section.where("shared_memory"),
               "a prefix of names: letters, digits, '_', '-' or '.', which must not come first", value);
    }
    return std::string(text);
}

std::vector<std::pair<std::string, std::variant<std::string, int64_t>>> read_options(Section& section) {
    const dom::element value = section.take("provider_options");
    const std::string where = section.where("provider_options");
    constexpr std::string_view kExpected = "a mapping of names to texts or whole numbers";
    if (value.type() != Type::OBJECT) refuse(where, kExpected, value);
    std::vector<std::pair<std::string, std::variant<std::string, int64_t>>> options;
    const dom::object items = value.get_object().value_unsafe();
    for (const auto& [name, item] : items) {
        std::string_view text;
        int64_t number = 0;
        bool flag = false;
        if (!item.get_string().get(text)) {
            options.emplace_back(name, std::string(text));
        } else if (!item.get_bool().get(flag)) {
            options.emplace_back(name, std::string(flag ? "True" : "False"));  // as str() has it
        } else if (!item.get_int64().get(number)) {
            options.emplace_back(name, number);
        } else {
            refuse(where, kExpected, value);
        }
    }
    return options;
}

// Messages put names in quotes, and they name parts, files and members of an .npz.
bool is_tensor_name(std::string_view text) {
    return !text.empty() && text.size() <= kMaxName && std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c <= '~' && c != '"' && c != '\'' && c != '\\' && c != '`';
    });
}

bool is_input_or_output(DType dtype) {
    return dtype != DType::kUInt16 && dtype != DType::kUInt32 && dtype != DType::kUInt64 &&
           dtype != DType::kFloat16;
}

TensorSpec read_spec(dom::element value, const std::string& where) {
    Section section(value, where);
    TensorSpec spec;
    spec.name = section.text("name");
    if (!is_tensor_name(spec.name)) {
        throw ModelError(where +
                         ".name: expected 1 to 128 printable ASCII characters other than spaces, quotes and "
                         "backslashes, got '" +
                         printable(spec.name, kMaxField) + "'");
    }
    const std::string dtype = section.text("dtype");
    const std::optional<DType> known = parse_dtype(dtype);
    if (!known || !is_input_or_output(*known)) {
        throw ModelError(
            where +
            ".dtype: expected one of bool, uint8, int8, int16, int32, int64, float32, float64, got '" +
            printable(dtype, kMaxField) + "'");
    }
    spec.dtype = *known;
    const dom::element shape = section.take("shape");
    constexpr std::string_view kSizes = "a list of sizes, -1 for any";
    if (shape.type() != Type::ARRAY) refuse(where + ".shape", kSizes, shape);
    const dom::array sizes = shape.get_array().value_unsafe();
    for (const dom::element each : sizes) {
        int64_t size = 0;
        if (each.get_int64().get(size) || size < -1) refuse(where + ".shape", kSizes, shape);
        spec.shape.push_back(size);
    }
    spec.optional = section.boolean("optional");
    const dom::element minimum = section.take("minimum");
    if (!minimum.is_null()) {
        double number = 0;
        if (minimum.get_double().get(number) || !std::isfinite(number) || spec.dtype == DType::kBool) {
            refuse(where + ".minimum", "a finite number, for an input of numbers", minimum);
        }
        spec.minimum = number;
    }
    section.finish();
    return spec;
}

Signature read_signature(Section& section, std::string_view key) {
    const dom::element value = section.take(key);
    const std::string where = section.where(key);
    dom::array items;
    if (value.get_array().get(items) || items.size() == 0)
        refuse(where, "a list of {name, dtype, shape}", value);
    Signature specs;
    for (const dom::element each : items) {
        TensorSpec spec = read_spec(each, where + "[" + std::to_string(specs.size()) + "]");
        for (const TensorSpec& other : specs) {
            if (other.name == spec.name)
                throw ModelError(where + ": two entries have the same name: " + spec.name);
        }
        specs.push_back(std::move(spec));
    }
    return specs;
}

// The other rooms rely on this: they look row pointers and columns up by name, and index along the first
// dimension.
void check_graph(const ModelConfig& config, const std::string& source) {
    if (config.batching == Batching::kGraph) {
        for (const std::string_view name : {kRowptr, kCol}) {
            const bool found =
                std::any_of(config.inputs.begin(), config.inputs.end(), [&](const TensorSpec& spec) {
                    return spec.name == name && kind(spec.dtype) == 'i' && spec.shape.size() == 1 &&
                           !spec.optional;
                });
            if (!found) {
                throw ModelError(source + ": batching: graph needs an input '" + std::string(name) +
                                 "', a vector of int32 or int64");
            }
        }
        for (const Signature* specs : {&config.inputs, &config.outputs}) {
            for (const TensorSpec& spec : *specs) {
                if (!spec.shape.empty()) continue;
                throw ModelError(source + ": batching: graph joins along the first dimension, which '" +
                                 spec.name + "' does not have");
            }
        }
    }
    for (const TensorSpec& spec : config.inputs) {
        if (spec.optional && (config.batching != Batching::kGraph || spec.name != kValue)) {
            throw ModelError(source + ": only the input 'value' with batching: graph may be optional, not '" +
                             spec.name + "'");
        }
    }
}

}  // namespace

ModelConfig ModelConfig::read(const std::filesystem::path& path) {
    const std::string source = path.string();
    errno = 0;
    simdjson::padded_string text;
    if (simdjson::padded_string::load(source).get(text)) {
        throw ModelError(source + ": cannot be read: " + std::strerror(errno == 0 ? EIO : errno));
    }
    dom::parser parser;
    dom::element document;
    if (const auto error = parser.parse(text).get(document)) {
        throw ModelError(source + ": not valid JSON: " + simdjson::error_message(error));
    }
    Section section(document, source);
    ModelConfig config;
    config.artifact = read_file_name(section.take("artifact"), section.where("artifact"));
    config.inputs = read_signature(section, "inputs");
    config.outputs = read_signature(section, "outputs");
    config.op_libraries = read_files(section, "op_libraries");
    config.device = section.choice("device", {"auto", "cpu", "cuda"});
    config.threads = read_threads(section);
    config.profile = read_profile(section);
    const std::string batching = section.choice("batching", {"none", "stack", "graph"});
    config.batching = batching == "graph"   ? Batching::kGraph
                      : batching == "stack" ? Batching::kStack
                                            : Batching::kNone;
    config.hooks = read_optional_file(section, "hooks");
    config.limits.max_image_pixels = section.positive("max_image_pixels");
    config.limits.max_bytes = config.memory.max_bytes = section.positive("max_npz_bytes");
    config.limits.max_json_bytes = section.positive("max_json_bytes");
    config.limits.max_response_bytes = section.positive("max_response_bytes");
    config.memory.prefix = read_key_prefix(section);
    config.warm_up = section.boolean("warm_up");
    config.freeze = section.boolean("freeze");
    config.optimize_for_inference = section.boolean("optimize_for_inference");
    config.graph_optimization = section.choice("graph_optimization", {"none", "basic", "extended", "all"});
    config.provider_options = read_options(section);
    const dom::element tolerance = section.take("tolerance");
    if (tolerance.get_double().get(config.tolerance) || !(config.tolerance >= 0 && config.tolerance < 1)) {
        refuse(section.where("tolerance"), "a number from 0 to below 1", tolerance);
    }
    section.finish();
    check_graph(config, source);
    return config;
}

std::string_view name(Batching batching) {
    switch (batching) {
        case Batching::kStack:
            return "stack";
        case Batching::kGraph:
            return "graph";
        default:
            return "none";
    }
}

}  // namespace opserve::native
