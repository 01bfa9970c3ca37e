// The errors of the native worker, as handlers/errors.py has them: a request at fault, a model that cannot be
// served, a GPU that was lost.
#pragma once

#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace opserve::native {

// The most characters of each that a response quotes, whatever the request contains; and that a log line
// quotes.
inline constexpr size_t kMaxMessage = 1000;
inline constexpr size_t kMaxField = 128;
inline constexpr size_t kMaxLogged = 2000;

// An error in one request: its sender gets `status` and a JSON body, and no other request is affected. The
// message may quote the request: it is bounded and made printable here, so that callers need not.
class RequestError : public std::exception {
  public:
    // A status outside 400..599 becomes 500; a field of more than kMaxField characters becomes none.
    explicit RequestError(std::string_view message, std::optional<std::string_view> field = std::nullopt,
                          int status = 400);

    const char* what() const noexcept override { return message_.c_str(); }
    const std::string& message() const { return message_; }
    const std::optional<std::string>& field() const { return field_; }
    int status() const { return status_; }

    // Whether the request is known to use the Open Inference Protocol, whose errors are texts.
    bool open_inference = false;

  private:
    std::string message_;
    std::optional<std::string> field_;
    int status_;
};

// The archive cannot be served: its configuration, a library or the artifact is at fault. One line.
class ModelError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// The GPU of this process has failed, and nothing more can run here.
class DeviceError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A model could not get the memory it needs; the process itself is sound.
class OutOfMemoryError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Returns a text of at most `limit` characters (code points), all printable as Python's str.isprintable has
// it: others are escaped, and the middle is left out. Bytes that are not UTF-8 are escaped as \xNN.
std::string printable(std::string_view text, size_t limit);

// Returns a text of at most `limit` code points, whose middle is left out.
std::string shortened(std::string_view text, size_t limit);

// Returns the last non-empty line of an exception's text, bounded and printable.
std::string last_line(std::string_view text);

}  // namespace opserve::native
