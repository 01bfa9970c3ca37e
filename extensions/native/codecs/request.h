// A request and a response as the worker sees them, whatever carried them: handlers/codecs/request.py.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../common/errors.h"

namespace opserve::native {

// Bytes that somebody keeps alive. They are writable: arrays made of a body are views of it.
struct Buffer {
    std::span<std::byte> bytes;
    std::shared_ptr<void> owner;

    size_t size() const { return bytes.size(); }
    std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
    Buffer slice(size_t begin, size_t length) const { return {bytes.subspan(begin, length), owner}; }
};

// The name of the only part of a body that is not made of named parts.
inline constexpr std::string_view kBody = "body";

struct Part {
    std::string name;
    std::string content_type;  // as its sender declared it; empty if there is none
    Buffer content;
    // At least this many bytes after the content may be read, whatever they are (simdjson reads ahead).
    static constexpr size_t kPadding = 64;
};

struct Request {
    std::vector<Part> parts;
    // Names in lower case.
    std::vector<std::pair<std::string, std::string>> headers;

    bool explain = false;  // it asks for an explanation instead of a prediction
    bool open_inference =
        false;  // it came to an address of the Open Inference Protocol, whose errors are strings
    bool grpc_infer = false;              // its response becomes that protocol's gRPC message
    std::optional<RequestError> refusal;  // why the server could not read it

    // The value of a header, or null.
    const std::string* header(std::string_view name) const;
};

struct Response {
    int status = 200;
    std::string content_type;
    std::string body;
    // In addition to Content-Type.
    std::vector<std::pair<std::string, std::string>> headers;
};

// What a message is about: a field, or without one the body.
std::string subject(std::optional<std::string_view> field);

}  // namespace opserve::native
