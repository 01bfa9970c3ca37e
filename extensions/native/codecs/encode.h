// From the outputs of one request, or its error, to a response with the bytes that handlers/codecs/encode.py,
// json_output.py (orjson), oip.py and oip_grpc.py write.
#pragma once

#include "../common/array.h"
#include "decode.h"
#include "request.h"

namespace opserve::native {

struct ModelName {
    std::string name, version;
};

// Throws RequestError: 400, 406 or 413.
Response encode_outputs(const Arrays& outputs, const ResponseFormat& format, const ModelName& model, int64_t max_bytes);
Response encode_error(const RequestError& error, const ResponseFormat& format, const ModelName& model);

// Appends a text as a JSON string, as orjson writes it; and an array as nested lists, NaN and infinity as null.
void append_json(std::string& out, std::string_view text);
void append_json(std::string& out, const Array& array);

}  // namespace opserve::native
