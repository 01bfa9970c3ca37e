#include "answers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <stdexcept>
#include <utility>

namespace opserve::native {
namespace {

constexpr int kOk = 200;
constexpr int32_t kEnd = -1;
constexpr std::string_view kContentType = "content-type", kStreamNext = "ts_stream_next", kLast = "false";
// Copying a body of at most this size costs less than another piece of the message.
constexpr size_t kCopied = 4096;

constexpr std::array<std::pair<int, std::string_view>, 58> kReasons{{
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Request Entity Too Large"},
    {414, "Request-URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Requested Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a Teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Entity"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {510, "Not Extended"},
    {511, "Network Authentication Required"},
}};

}  // namespace

std::string_view reason_phrase(int status) {
    const auto found = std::ranges::find(kReasons, status, &std::pair<int, std::string_view>::first);
    return found == kReasons.end() ? std::string_view() : found->second;
}

void AnswerMessage::begin(int32_t code, std::string_view text) {
    bytes_.clear();
    bodies_.clear();
    add_int(code);
    add_string(text);
}

void AnswerMessage::add_int(int32_t number) {
    auto bits = static_cast<uint32_t>(number);
    if constexpr (std::endian::native == std::endian::little) bits = __builtin_bswap32(bits);
    bytes_.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
}

void AnswerMessage::add_string(std::string_view text) {
    if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
        throw std::length_error("an answer larger than 2 GiB");
    add_int(static_cast<int32_t>(text.size()));
    bytes_ += text;
}

void AnswerMessage::add_head(std::string_view request_id, std::string_view media_type, int status) {
    add_string(request_id);
    add_string(media_type);
    add_int(status);
    add_string(status == kOk ? std::string_view() : reason_phrase(status));
}

void AnswerMessage::add(std::string_view request_id, const Response& response, bool by_grpc) {
    if (response.body.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
        throw std::length_error("an answer larger than 2 GiB");
    add_head(request_id, response.content_type, response.status);
    add_int(static_cast<int32_t>(1 + response.headers.size() + (by_grpc ? 1 : 0)));
    add_string(kContentType);
    add_string(response.content_type);
    for (const auto& [name, value] : response.headers) {
        add_string(name);
        add_string(value);
    }
    if (by_grpc) {
        add_string(kStreamNext);
        add_string(kLast);
    }
    if (response.body.size() <= kCopied) {
        add_string(response.body);
    } else {
        add_int(static_cast<int32_t>(response.body.size()));
        bodies_.push_back({bytes_.size(), response.body});
    }
}

void AnswerMessage::add_text(std::string_view request_id, std::string_view text) {
    add_head(request_id, {}, kOk);
    add_int(0);
    add_string(text);
}

void AnswerMessage::send(Connection& connection) {
    add_int(kEnd);
    pieces_.clear();
    const auto add_piece = [this](std::string_view piece) {
        if (!piece.empty()) pieces_.push_back({const_cast<char*>(piece.data()), piece.size()});
    };
    size_t begin = 0;
    for (const auto& [place, content] : bodies_) {
        add_piece(std::string_view(bytes_).substr(begin, place - begin));
        add_piece(content);
        begin = place;
    }
    add_piece(std::string_view(bytes_).substr(begin));
    connection.send(pieces_);
}

}  // namespace opserve::native
