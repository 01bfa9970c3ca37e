// The connection by which TorchServe's frontend hands over requests, read ahead.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace opserve::native {

// The frontend is gone.
class Disconnected : public std::exception {};

// What was received is not the protocol.
class ProtocolError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Reads big-endian numbers, texts and bodies from a stream socket. One system call fills a buffer with
// whatever has arrived; a body that is larger goes straight into its place.
class Connection {
  public:
    // Called when nothing has arrived for a while. Returns after how long it is to be called again if still
    // nothing has; a negative time: not before something has.
    using Idle = std::function<std::chrono::milliseconds()>;

    // Takes over a connected socket, and closes it in the end.
    explicit Connection(int socket);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // From now on `idle` is called when nothing has arrived for `after`.
    void on_idle(std::chrono::milliseconds after, Idle idle);

    // All throw Disconnected, and std::system_error.
    uint8_t read_byte();
    int32_t read_int();
    // Throws ProtocolError if the length is negative.
    void read_text(std::string& text, int32_t length);
    void read_bytes(std::span<std::byte> out);
    void skip(uint64_t length);

    // Sends all pieces, in order; changes them. Throws std::system_error.
    void send(std::span<iovec> pieces);

    // Tells the frontend that nothing more is read or sent.
    void shut_down();

  private:
    size_t available() const { return end_ - begin_; }
    // Receives at least one byte into the pieces.
    size_t receive(std::span<iovec> pieces);
    // Makes `count` bytes, which the buffer can hold, available.
    void require(size_t count);

    int socket_;
    Idle idle_;
    std::unique_ptr<std::byte[]> buffer_;
    size_t begin_ = 0, end_ = 0;
};

}  // namespace opserve::native
