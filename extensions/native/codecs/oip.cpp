#include "oip.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_set>

#include "budget.h"
#include "datatypes.h"
#include "npy.h"
#include "text.h"

namespace opserve::native {

namespace {

// Bytes of an id or a name.
constexpr size_t kMaxText = 1024;
constexpr size_t kMaxOutputs = 1024;
constexpr size_t kFewOutputs = 16;

RequestError about(std::string_view name, std::string_view more) {
    return RequestError("'" + std::string(name) + "' " + std::string(more), name);
}

// The name of an input or output; nothing if it has none or one that is too long.
std::optional<std::string_view> read_name(const JsonValue& item) {
    if (!item.is(JsonKind::kObject)) return std::nullopt;
    const auto name = item.find("name");
    if (!name || !name->is(JsonKind::kString)) return std::nullopt;
    const std::string_view text = name->string();
    if (text.size() > kMaxText) return std::nullopt;
    return text;
}

// The parameters of an input, an output or, without a name, of the request.
std::optional<JsonValue> read_parameters(const JsonValue& item, std::optional<std::string_view> name) {
    const auto parameters = item.find("parameters");
    if (!parameters || parameters->is(JsonKind::kNull)) return std::nullopt;
    if (!parameters->is(JsonKind::kObject)) {
        const std::string owner = name ? "'" + std::string(*name) + "'" : "the request";
        throw RequestError("the parameters of " + owner + " must be an object", "parameters");
    }
    return parameters;
}

bool read_flag(const std::optional<JsonValue>& parameters, std::string_view key, bool otherwise) {
    const auto value = parameters ? parameters->find(key) : std::nullopt;
    if (!value) return otherwise;
    if (!value->is(JsonKind::kBool)) {
        throw RequestError("the parameter " + std::string(key) + " must be true or false", "parameters");
    }
    return value->boolean();
}

const Datatype& read_datatype(const JsonValue& item, std::string_view name) {
    const auto value = item.find("datatype");
    const bool is_text = value && value->is(JsonKind::kString);
    if (is_text) {
        if (const Datatype* datatype = find_datatype(value->string())) return *datatype;
    }
    const std::string given =
        is_text ? quoted(first_characters(value->string(), 80)) : "that is not a string";
    throw about(name, "has a datatype " + given + "; known are " + std::string(kDatatypeNames));
}

// Fills `shape` with the sizes of a tensor.
void read_shape(const JsonValue& item, std::string_view name, Shape& shape) {
    shape.clear();
    const auto value = item.find("shape");
    bool valid = value && value->is(JsonKind::kArray) && value->size() <= kMaxDimensions;
    if (valid) {
        value->for_each([&](const JsonValue& each) {
            const auto size = each.is(JsonKind::kInteger) ? each.integer() : std::nullopt;
            if (size && *size >= 0) {
                shape.push_back(*size);
            } else {
                valid = false;
            }
        });
    }
    if (!valid) throw about(name, "has no shape; it must be a list of sizes");
}

// The number of elements of a shape, or nothing if no memory holds as many.
std::optional<uint64_t> count(const Shape& shape) {
    uint64_t product = 1;
    bool overflows = false;
    for (const int64_t size : shape) {
        if (size == 0) return 0;
        overflows |= __builtin_mul_overflow(product, static_cast<uint64_t>(size), &product);
    }
    return overflows ? std::nullopt : std::optional(product);
}

bool begins_with_list(const JsonValue& list) {
    return list.size() > 0 && JsonValue(list.tape(), list.at() + 1).is(JsonKind::kArray);
}

// One tensor of a request: what `read_tensors` keeps from one to the next.
struct Tensor {
    std::string_view name;
    const Datatype* datatype = nullptr;
    Shape shape;
    TensorSpec spec;  // as the request describes it

    Array from_json(const std::optional<JsonValue>& data);
    Array from_bytes(const Buffer& data) const;
    Array from_memory(const Region& region) const;
};

Array Tensor::from_json(const std::optional<JsonValue>& data) {
    if (!data || !data->is(JsonKind::kArray))
        throw about(name, "has no data; it must be a list, flat or nested");
    const bool nested = begins_with_list(*data);
    spec.name = name;
    spec.dtype = datatype->dtype;
    if (nested) {
        spec.shape = shape;
    } else {
        const size_t values = data->size();
        if (count(shape) != values) {
            throw about(name, "has " + std::to_string(values) + " values for the shape " + list_text(shape));
        }
        spec.shape.assign(1, static_cast<int64_t>(values));
    }
    return reshape(convert(*data, spec), shape, name);
}

Array Tensor::from_bytes(const Buffer& data) const {
    if (!datatype->is_bfloat16) return view_as_array(data, datatype->dtype, shape, name);
    const Array halves = view_as_array(data, DType::kUInt16, shape, name);
    const auto length = static_cast<size_t>(halves.size());
    Array wide = Array::empty(DType::kFloat32, {static_cast<int64_t>(length)});
    for (size_t i = 0; i < length; ++i) {
        uint16_t half;
        std::memcpy(&half, halves.data + 2 * i, sizeof half);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        std::memcpy(wide.data + 4 * i, &bits, sizeof bits);
    }
    return reshape(std::move(wide), shape, name);
}

Array Tensor::from_memory(const Region& region) const {
    const auto elements = count(shape);
    uint64_t needed = 0;
    const bool fits = elements && !__builtin_mul_overflow(*elements, datatype->size(), &needed);
    if (!fits || needed != static_cast<uint64_t>(region.size)) {  // before anything is copied
        throw about(name, "is " + std::string(datatype->name) + " " + list_text(shape) + ", which takes " +
                              product_text(shape, datatype->size()) +
                              " bytes, but its shared_memory_byte_size is " + std::to_string(region.size));
    }
    return from_bytes(read_region(region, name));
}

}  // namespace

bool InferRequest::wants_binary() const {
    if (!outputs) return binary;
    return std::any_of(outputs->begin(), outputs->end(), [](const auto& each) { return each.second; });
}

bool is_infer_request(const JsonValue& document, const Signature& specs) {
    if (!document.is(JsonKind::kObject)) return false;
    const auto inputs = document.find("inputs");
    if (!inputs || !inputs->is(JsonKind::kArray)) return false;
    const bool is_input =
        std::any_of(specs.begin(), specs.end(), [](const TensorSpec& spec) { return spec.name == "inputs"; });
    if (!is_input) return true;
    bool objects = inputs->size() > 0;
    inputs->for_each([&](const JsonValue& item) { objects = objects && item.is(JsonKind::kObject); });
    return objects;
}

std::pair<Buffer, Buffer> split_body(const Buffer& content, std::string_view length) {
    uint64_t size = 0;
    // Not std::from_chars alone, which would read the beginning of other texts; and no more digits than
    // Python reads.
    const bool is_number =
        !length.empty() && length.size() < 20 &&
        std::all_of(length.begin(), length.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (is_number) std::from_chars(length.data(), length.data() + length.size(), size);
    if (!is_number || size > content.size()) {
        throw RequestError(std::string(kJsonLengthHeader) + " is '" + std::string(length) +
                           "'; the body has " + std::to_string(content.size()) + " bytes");
    }
    return {content.slice(0, size), content.slice(size, content.size() - size)};
}

std::vector<std::string_view> input_names(const JsonValue& document) {
    std::vector<std::string_view> names;
    const auto inputs = document.find("inputs");
    names.reserve(inputs->size());
    inputs->for_each([&](const JsonValue& item) {
        const auto name = read_name(item);
        if (!name) throw RequestError("'inputs' must be a list of {name, shape, datatype, data}", "inputs");
        names.push_back(*name);
    });
    return names;
}

Arrays read_tensors(const JsonValue& document, Buffer binary, const SharedMemory& memory) {
    Arrays tensors;
    Tensor tensor;
    uint64_t shared = 0;
    document.find("inputs")->for_each([&](const JsonValue& item) {
        const std::string_view name = tensor.name = item.find("name")->string();
        if (find(tensors, name) != nullptr) throw about(name, "occurs twice among the inputs");
        tensor.datatype = &read_datatype(item, name);
        read_shape(item, name, tensor.shape);
        const auto parameters = read_parameters(item, name);
        auto size = parameters ? parameters->find("binary_data_size") : std::nullopt;
        if (size && size->is(JsonKind::kNull)) size.reset();
        const auto data = item.find("data");
        if (const auto region = memory.find_region(parameters, name)) {
            if (data || size) throw about(name, "must have either data or a place in shared memory");
            // A bfloat16 is widened before it is counted again.
            shared += static_cast<uint64_t>(region->size) * (tensor.datatype->is_bfloat16 ? 2 : 1);
            if (shared > static_cast<uint64_t>(memory.max_bytes)) {
                const std::string reason =
                    "the inputs in shared memory have " + std::to_string(shared) + " bytes";
                throw over_bound(reason, memory.max_bytes, name);
            }
            tensors.push_back({name, tensor.from_memory(*region)});
        } else if (!size) {
            tensors.push_back({name, tensor.from_json(data)});
        } else {
            const auto bytes = size->is(JsonKind::kInteger) ? size->integer() : std::nullopt;
            if (data || !bytes || *bytes < 0 || static_cast<uint64_t>(*bytes) > binary.size()) {
                throw about(name, "must have either data, or a binary_data_size within the " +
                                      std::to_string(binary.size()) + " bytes that are left");
            }
            const auto length = static_cast<size_t>(*bytes);
            tensors.push_back({name, tensor.from_bytes(binary.slice(0, length))});
            binary = binary.slice(length, binary.size() - length);
        }
    });
    if (binary.size() > 0) {
        throw RequestError(std::to_string(binary.size()) + " bytes of binary data belong to no input");
    }
    return tensors;
}

InferRequest read_infer_request(const JsonValue& document, const SharedMemory& memory) {
    InferRequest request;
    const auto id = document.find("id");
    if (id && !id->is(JsonKind::kNull)) {
        if (!id->is(JsonKind::kString) || id->string().size() > kMaxText) {
            throw RequestError("'id' must be a string of at most " + std::to_string(kMaxText) + " bytes",
                               "id");
        }
        request.id.emplace(id->string());
    }
    request.binary = read_flag(read_parameters(document, std::nullopt), "binary_data_output", false);
    const auto outputs = document.find("outputs");
    if (!outputs || outputs->is(JsonKind::kNull)) return request;
    if (!outputs->is(JsonKind::kArray)) throw RequestError("'outputs' must be a list of {name}", "outputs");
    const size_t wanted = outputs->size();
    if (wanted == 0) return request;
    if (wanted > kMaxOutputs) {
        throw RequestError("'outputs' names " + std::to_string(wanted) + " outputs; at most " +
                               std::to_string(kMaxOutputs) + " are accepted",
                           "outputs");
    }
    auto& chosen = request.outputs.emplace();
    chosen.reserve(wanted);
    std::unordered_set<std::string_view> names;  // of many; a few are compared one by one
    const auto is_new = [&](std::string_view name) {
        if (wanted > kFewOutputs) return names.insert(name).second;
        return std::none_of(chosen.begin(), chosen.end(),
                            [&](const auto& each) { return each.first == name; });
    };
    outputs->for_each([&](const JsonValue& item) {
        const auto name = read_name(item);
        if (!name || !is_new(*name)) {
            throw RequestError("'outputs' must be a list of {name}, each once", "outputs");
        }
        const auto parameters = read_parameters(item, *name);
        const auto region = memory.find_region(parameters, *name);
        if (region) request.regions.emplace_back(*name, *region);
        chosen.emplace_back(*name, !region && read_flag(parameters, "binary_data", request.binary));
    });
    return request;
}

}  // namespace opserve::native
