// Writes the answers to a batch as TorchServe's frontend reads them, straight from the responses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../codecs/request.h"
#include "connection.h"

namespace opserve::native {

// The reason phrase that belongs to a status, as Python's http.client has it; empty for one that has none.
std::string_view reason_phrase(int status);

// One message. Its memory is used again for the next one.
class AnswerMessage {
  public:
    // Begins an answer to a whole batch, or to a request to load a model.
    void begin(int32_t code, std::string_view text);

    // Adds the response to one request, which must live until the message is sent. One that came by gRPC is
    // marked as the last of a stream: TorchServe ends the worker of a stream whose response is not; over HTTP
    // it would wait for more. Throws std::length_error: larger than any message can be.
    void add(std::string_view request_id, const Response& response, bool by_grpc);

    // Adds text without a media type, such as a description.
    void add_text(std::string_view request_id, std::string_view text);

    // Throws std::system_error.
    void send(Connection& connection);

  private:
    struct Body {
        size_t place;  // in bytes_
        std::string_view content;
    };

    void add_int(int32_t number);
    void add_string(std::string_view text);
    void add_head(std::string_view request_id, std::string_view media_type, int status);

    std::string bytes_;  // everything but large bodies
    std::vector<Body> bodies_;
    std::vector<iovec> pieces_;
};

}  // namespace opserve::native
