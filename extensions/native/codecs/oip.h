// The Open Inference Protocol (v2): handlers/codecs/oip.py and datatypes.py.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "json.h"
#include "request.h"
#include "shared_memory.h"

namespace opserve::native {

inline constexpr std::string_view kJsonLengthHeader = "Inference-Header-Content-Length";

// What a request in this protocol asks of its response.
struct InferRequest {
    std::optional<std::string> id;
    std::optional<std::vector<std::pair<std::string, bool>>> outputs;  // name, whether as binary data
    bool binary = false;
    std::vector<std::pair<std::string, Region>> regions;

    bool wants_binary() const;
};

bool is_infer_request(const JsonValue& document, const Signature& specs);
std::pair<Buffer, Buffer> split_body(const Buffer& content, std::string_view length);
std::vector<std::string_view> input_names(const JsonValue& document);
// The request's inputs, under the names of the request. Throws RequestError.
Arrays read_tensors(const JsonValue& document, Buffer binary, const SharedMemory& memory);
InferRequest read_infer_request(const JsonValue& document, const SharedMemory& memory);

}  // namespace opserve::native
