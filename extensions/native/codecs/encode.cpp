#include "encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "datatypes.h"
#include "json_writer.h"
#include "npy.h"
#include "oip.h"

namespace opserve::native {

namespace {

// Bytes of an .npz in addition to its arrays.
constexpr uint64_t kNpzOverhead = 1 << 12;

// For responses in the Open Inference Protocol to other requests: all outputs, as JSON.
const InferRequest kAllOutputs;

const InferRequest& asked(const ResponseFormat& format) {
    return format.infer_request != nullptr ? *format.infer_request : kAllOutputs;
}

uint64_t total_bytes(const Arrays& arrays) {
    uint64_t total = 0;
    for (const NamedArray& each : arrays) total += each.array.bytes();
    return total;
}

// Characters that a number of this dtype usually takes, with its comma.
uint64_t usual_length(DType dtype) {
    switch (kind(dtype)) {
        case 'b':
            return 6;
        case 'f':
            return dtype == DType::kFloat64 ? 20 : 12;
        default:
            return 2 + 2 * item_size(dtype);
    }
}

// Characters that an output usually takes in JSON.
uint64_t usual_length(std::string_view name, const Array& array) {
    return 128 + name.size() + static_cast<uint64_t>(array.size()) * usual_length(array.dtype);
}

// Room for a response that is about to be written, so that it rarely moves while it grows.
void reserve(std::string& body, const Arrays& outputs, uint64_t max_bytes) {
    uint64_t length = 0;
    for (const NamedArray& each : outputs) length += usual_length(each.name, each.array);
    body.reserve(std::min(length, max_bytes));
}

bool all_finite(const Array& array) {
    const auto check = [&]<typename T>(T) {
        const auto size = static_cast<size_t>(array.size());
        for (size_t i = 0; i < size; ++i) {
            T value;
            std::memcpy(&value, array.data + i * sizeof value, sizeof value);
            if (!std::isfinite(value)) return false;
        }
        return true;
    };
    switch (array.dtype) {
        case DType::kFloat32:
            return check(float());
        case DType::kFloat64:
            return check(double());
        case DType::kFloat16: {
            const auto size = static_cast<size_t>(array.size());
            for (size_t i = 0; i < size; ++i) {
                uint16_t half;
                std::memcpy(&half, array.data + 2 * i, sizeof half);
                if ((half & 0x7C00) == 0x7C00) return false;
            }
            return true;
        }
        default:
            return true;
    }
}

// {"name":[[…]],…}
Response write_plain(const Arrays& outputs, uint64_t max_bytes) {
    Response response{200, std::string(kJsonType), {}, {}};
    reserve(response.body, outputs, max_bytes);
    JsonWriter json(response.body, max_bytes);
    std::string_view before = "{";
    for (const auto& [name, array] : outputs) {
        json.raw(std::exchange(before, ","));
        json.text(name);
        json.raw(":");
        json.lists(array);
    }
    json.raw(outputs.empty() ? "{}" : "}");
    json.finish();
    return response;
}

Response write_npz_response(const Arrays& outputs, uint64_t max_bytes) {
    if (total_bytes(outputs) > max_bytes) throw ResponseTooLarge();
    Response response{200, std::string(kNpzType), write_npz(outputs), {}};
    if (response.body.size() > max_bytes) throw ResponseTooLarge();
    return response;
}

// An output that an Open Inference Protocol request wants, and where.
struct Wanted {
    std::string_view name;
    const Array* array;
    bool binary = false;
    std::optional<Region> region;  // that it was written to
};

std::vector<Wanted> find_wanted(const Arrays& outputs, const InferRequest& request) {
    std::vector<Wanted> wanted;
    if (!request.outputs) {
        wanted.reserve(outputs.size());
        for (const auto& [name, array] : outputs) wanted.push_back({name, &array, request.binary, {}});
        return wanted;
    }
    wanted.reserve(outputs.size());
    for (const auto& [name, binary] : *request.outputs) {
        const Array* array = find(outputs, name);
        if (array == nullptr) {
            std::string message = "'" + name + "' is not an output of this model; it has ";
            for (const NamedArray& each : outputs) {
                if (&each != &outputs.front()) message += ", ";
                message += each.name;
            }
            throw RequestError(message, name);
        }
        wanted.push_back({name, array, binary, {}});
        for (const auto& [output, region] : request.regions) {
            if (output != name) continue;
            wanted.back().region = write_region(region, *array, name);
            wanted.back().binary = false;
        }
    }
    return wanted;
}

// "name":…,"datatype":…,"shape":…
void describe(JsonWriter& json, std::string_view name, DType dtype, const Shape& shape) {
    json.raw("\"name\":");
    json.text(name);
    json.raw(",\"datatype\":\"");
    json.raw(datatype_name(dtype));
    json.raw("\",\"shape\":");
    json.sizes(shape);
}

Response write_infer_response(const Arrays& outputs, const ResponseFormat& format, const ModelName& model,
                              uint64_t max_bytes) {
    const InferRequest& request = asked(format);
    const std::vector<Wanted> wanted = find_wanted(outputs, request);
    uint64_t head = 128, tail = 0;
    bool has_tail = false;
    for (const Wanted& each : wanted) {
        if (each.binary) {
            has_tail = true;
            head += 128;
            tail += each.array->bytes();
        } else {
            head += usual_length(each.name, *each.array);
        }
    }
    if (tail > max_bytes) throw ResponseTooLarge();
    Response response;
    std::string& body = response.body;
    body.reserve(std::min(head + tail, max_bytes));
    JsonWriter json(body, max_bytes - tail);
    json.raw("{\"model_name\":");
    json.text(model.name);
    if (!model.version.empty()) {
        json.raw(",\"model_version\":");
        json.text(model.version);
    }
    if (request.id) {
        json.raw(",\"id\":");
        json.text(*request.id);
    }
    json.raw(",\"outputs\":[");
    for (const Wanted& each : wanted) {
        json.raw(&each == wanted.data() ? "{" : ",{");
        describe(json, each.name, each.array->dtype, each.array->shape);
        if (each.region) {
            json.raw(",\"parameters\":{\"shared_memory_region\":");
            json.text(each.region->key);
            json.raw(",\"shared_memory_offset\":");
            json.number(each.region->offset);
            json.raw(",\"shared_memory_byte_size\":");
            json.number(each.region->size);
            json.raw("}}");
        } else if (each.binary) {
            json.raw(",\"parameters\":{\"binary_data_size\":");
            json.number(each.array->bytes());
            json.raw("}}");
        } else {
            json.raw(",\"data\":");
            json.flat(*each.array);
            json.raw("}");
        }
    }
    json.raw("]}");
    json.finish();
    if (!has_tail) {
        response.content_type = format.type == ResponseType::kOip ? kOipType : kJsonType;
        return response;
    }
    response.content_type = kBinaryType;
    response.headers.emplace_back(kJsonLengthHeader, std::to_string(body.size()));
    for (const Wanted& each : wanted) {
        if (each.binary) body.append(reinterpret_cast<const char*>(each.array->data), each.array->bytes());
    }
    return response;
}

// What both documents for gRPC begin with; TorchServe needs every name.
void write_names(JsonWriter& json, const InferRequest& request, const ModelName& model) {
    json.raw("{\"id\":");
    json.text(request.id ? std::string_view(*request.id) : std::string_view());
    json.raw(",\"model_name\":");
    json.text(model.name);
    json.raw(",\"model_version\":");
    json.text(model.version);
    json.raw(",\"outputs\":[");
}

// The document that TorchServe turns into the protocol's gRPC message: see handlers/codecs/oip_grpc.py.
Response write_grpc_response(const Arrays& outputs, const ResponseFormat& format, const ModelName& model,
                             uint64_t max_bytes) {
    Response response{200, std::string(kJsonType), {}, {}};
    reserve(response.body, outputs, max_bytes);
    JsonWriter json(response.body, max_bytes);
    write_names(json, asked(format), model);
    for (const NamedArray& each : outputs) {
        const Array& array = each.array;
        json.raw(&each == outputs.data() ? "{" : ",{");
        // The message has no field for float16.
        const DType sent = array.dtype == DType::kFloat16 ? DType::kFloat32 : array.dtype;
        describe(json, each.name, sent, array.shape);
        json.raw(",\"data\":");
        if (all_finite(array)) {
            json.flat(array);
        } else {
            json.numbers_and_names(array);
        }
        json.raw("}");
    }
    json.raw("]}");
    json.finish();
    return response;
}

RequestError too_large(const Arrays& outputs, const ResponseFormat& format, uint64_t max_bytes) {
    const uint64_t size = total_bytes(outputs);
    const bool is_binary = format.type == ResponseType::kNpz || asked(format).wants_binary();
    std::string message =
        "the answer would be larger than " + std::to_string(max_bytes) + " bytes, the most that is sent; ";
    if (!is_binary && size > 0 && size + kNpzOverhead < max_bytes) {
        message +=
            "as application/x-npz (Accept) or binary data of the Open Inference Protocol it takes about " +
            std::to_string(size);
    } else {
        message += "send less per request";
    }
    return RequestError(message, std::nullopt, 413);
}

}  // namespace

Response encode_outputs(const Arrays& outputs, const ResponseFormat& format, const ModelName& model,
                        int64_t max_bytes) {
    const auto bound = static_cast<uint64_t>(max_bytes);
    try {
        if (format.grpc_infer) return write_grpc_response(outputs, format, model, bound);
        if (format.type == ResponseType::kNpz) return write_npz_response(outputs, bound);
        const bool plain =
            format.type == ResponseType::kJson && format.infer_request == nullptr && !format.text_errors;
        return plain ? write_plain(outputs, bound) : write_infer_response(outputs, format, model, bound);
    } catch (const ResponseTooLarge&) {
        throw too_large(outputs, format, bound);
    }
}

Response encode_error(const RequestError& error, const ResponseFormat& format, const ModelName& model) {
    Response response{error.status(), std::string(kJsonType), {}, {}};
    JsonWriter json(response.body, SIZE_MAX);
    if (format.grpc_infer) {
        write_names(json, asked(format), model);
        json.raw("{\"name\":\"error\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[");
        json.text(error.message());
        json.raw("]}]}");
    } else if (format.text_errors || format.infer_request != nullptr || error.open_inference) {
        json.raw("{\"error\":");
        json.text(error.message());
        json.raw("}");
    } else {
        json.raw("{\"error\":{\"code\":");
        json.number(error.status());
        json.raw(",\"field\":");
        if (error.field()) {
            json.text(*error.field());
        } else {
            json.raw("null");
        }
        json.raw(",\"message\":");
        json.text(error.message());
        json.raw("}}");
    }
    json.finish();
    return response;
}

void append_json(std::string& out, std::string_view text) {
    JsonWriter json(out, SIZE_MAX);
    json.text(text);
    json.finish();
}

void append_json(std::string& out, const Array& array) {
    JsonWriter json(out, SIZE_MAX);
    json.lists(array);
    json.finish();
}

}  // namespace opserve::native
