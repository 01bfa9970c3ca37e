// The Open Inference Protocol (v2), tensors as JSON, its binary data extension and shared memory: what a
// request holds and asks for, as handlers/codecs/oip.py reads it. Its responses are in encode.h.
//
// A request is {"inputs": [{"name", "shape", "datatype", "data"}], "outputs"?, "id"?, "parameters"?}. With
// the extension the JSON is only the start of the body, as long as the header Inference-Header-Content-Length
// says; the bytes of the tensors with a binary_data_size among their parameters follow it in their order,
// little-endian. Tensors with a shared_memory_region are in memory that both sides share.
#pragma once

#include <optional>
#include <string>
#include <string_view>
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
    // The outputs wanted, in this order, and whether each is wanted as binary data; without a value all of
    // them.
    std::optional<std::vector<std::pair<std::string, bool>>> outputs;
    bool binary = false;  // whether those that `outputs` does not list are wanted as binary data
    std::vector<std::pair<std::string, Region>> regions;  // of those that are wanted in shared memory

    // Whether any output is wanted as binary data.
    bool wants_binary() const;
};

// Whether a JSON document is a request in this protocol, for a model with these inputs.
bool is_infer_request(const JsonValue& document, const Signature& specs);

// Returns the JSON and the binary data of a body, given the value of kJsonLengthHeader. Throws RequestError:
// it is not a number of bytes that the body has.
std::pair<Buffer, Buffer> split_body(const Buffer& content, std::string_view length);

// Returns the names of the inputs in the order of the request; to be compared with the model's before their
// data are read. They are valid as long as the document. Throws RequestError: one has no name, or one that is
// too long.
std::vector<std::string_view> input_names(const JsonValue& document);

// Returns the inputs under the names of the request, all of which `input_names` has checked. Those in
// `binary` are views of it unless they are bfloat16; those in shared memory are copied. Throws RequestError,
// naming the tensor whose description, shape or data is wrong.
Arrays read_tensors(const JsonValue& document, Buffer binary, const SharedMemory& memory);

// Throws RequestError: `id`, `outputs` or a parameter is of the wrong type or too long.
InferRequest read_infer_request(const JsonValue& document, const SharedMemory& memory);

}  // namespace opserve::native
