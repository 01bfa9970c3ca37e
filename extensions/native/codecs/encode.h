// From the outputs of one request, or its error, to a response with the bytes that handlers/codecs/encode.py,
// json_output.py (orjson), oip.py and oip_grpc.py write.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "../common/array.h"
#include "../common/errors.h"
#include "negotiation.h"
#include "request.h"

namespace opserve::native {

// In valid UTF-8.
struct ModelName {
    std::string name, version;
};

// Returns the response that `format` asks for. `outputs` are in C order and native.
//
// JSON: an object of the outputs by name; arrays become nested lists, NaN and infinity become null. .npz:
// uncompressed. Open Inference Protocol: as application/json to a request in that protocol, or else by its
// own type; only there the model's name and version appear.
//
// Throws RequestError: 400, an output is wanted that does not exist, or in shared memory that cannot take it;
// or 413, the response is larger than `max_bytes`.
Response encode_outputs(const Arrays& outputs, const ResponseFormat& format, const ModelName& model,
                        int64_t max_bytes);

// Returns {"error": {"code", "field", "message"}} with the error's status, whatever was asked for; for a
// request of the Open Inference Protocol {"error": message}.
Response encode_error(const RequestError& error, const ResponseFormat& format, const ModelName& model);

// Appends a text as a JSON string, as orjson writes it; and an array as nested lists, NaN and infinity as
// null.
void append_json(std::string& out, std::string_view text);
void append_json(std::string& out, const Array& array);

}  // namespace opserve::native
