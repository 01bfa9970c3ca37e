// Which format the sender of a request wants for its response (RFC 9110, Accept):
// handlers/codecs/negotiation.py.
#pragma once

#include <memory>
#include <string_view>

#include "oip.h"

namespace opserve::native {

inline constexpr std::string_view kJsonType = "application/json";
// Our own: the protocol itself has no media type but application/json, which is taken.
inline constexpr std::string_view kOipType = "application/vnd.oip+json";
inline constexpr std::string_view kBinaryType = "application/octet-stream";

enum class ResponseType { kJson, kNpz, kOip };  // kOip: application/vnd.oip+json

// How one request wants to be answered.
struct ResponseFormat {
    ResponseType type = ResponseType::kJson;
    std::shared_ptr<const InferRequest> infer_request;  // null for any other request
    bool text_errors = false;                           // an error is a text, as that protocol wants it
    bool grpc_infer = false;                            // the response becomes that protocol's gRPC message
};

// Returns the format that an Accept header (empty: none) asks for. Throws RequestError: 406, none of the
// formats is accepted; 400, the header is longer than any client's.
ResponseFormat choose_format(std::string_view accept, std::shared_ptr<const InferRequest> infer_request);

}  // namespace opserve::native
