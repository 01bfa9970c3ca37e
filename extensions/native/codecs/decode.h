// From the bytes of a request to one array per input of the signature: handlers/codecs/decode.py.
#pragma once

#include "../common/array.h"
#include "../signature/signature.h"
#include "budget.h"
#include "negotiation.h"
#include "request.h"
#include "shared_memory.h"

namespace opserve::native {

struct DecodedRequest {
    Arrays inputs;  // in the order of the signature, whose names they have; an optional one may be absent
    ResponseFormat format;
};

// Returns the inputs of one request, converted to their dtypes and checked against their shapes.
//
// Accepted: parts named like the inputs (multipart form), each a PNG/JPEG, an .npy, an .npz of one array, or
// a JSON value; a body that is one JSON object or one .npz with the inputs by name; an Open Inference
// Protocol request; and, if the model has a single input, a PNG/JPEG, an .npy or a JSON array alone. A whole
// body may be compressed with gzip or deflate. Arrays that come as bytes of the right dtype, aligned and in C
// order, are views of the request's own buffer.
//
// Throws RequestError: naming the field that is missing, unknown, unreadable or of the wrong type, shape or
// size; or 406 if no response format is accepted; or 413 if it exceeds a bound, before anything is made for
// it.
DecodedRequest decode_request(const Request& request, const Signature& specs, const Limits& limits,
                              const SharedMemory& memory);

}  // namespace opserve::native
