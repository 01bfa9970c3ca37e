// From the bytes of a request to one array per input of the signature: handlers/codecs/decode.py and negotiation.py.
#pragma once

#include <memory>

#include "../common/array.h"
#include "../signature/signature.h"
#include "budget.h"
#include "oip.h"
#include "request.h"
#include "shared_memory.h"

namespace opserve::native {

enum class ResponseType { kJson, kNpz, kOip };  // kOip: application/vnd.oip+json

// How one request wants to be answered.
struct ResponseFormat {
    ResponseType type = ResponseType::kJson;
    std::shared_ptr<const InferRequest> infer_request;  // null for any other request
    bool text_errors = false;
    bool grpc_infer = false;
};

struct DecodedRequest {
    Arrays inputs;  // in the order of the signature; an optional one may be absent
    ResponseFormat format;
};

// Returns the inputs of one request, converted and checked. Throws RequestError.
DecodedRequest decode_request(const Request& request, const Signature& specs, const Limits& limits, const SharedMemory& memory);

// Returns the format that an Accept header (empty: none) asks for. Throws RequestError: 406.
ResponseFormat choose_format(std::string_view accept, std::shared_ptr<const InferRequest> infer_request);

}  // namespace opserve::native
