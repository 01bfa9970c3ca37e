#include "connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstring>
#include <system_error>

namespace opserve::native {
namespace {

constexpr size_t kBuffer = size_t{1} << 16;
// The system may grant less. A large answer then takes fewer turns between the two processes.
constexpr int kSendBuffer = 1 << 22;
// A text grows by at most this much before it has arrived.
constexpr size_t kTextStep = size_t{1} << 16;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

Connection::Connection(int socket)
    : socket_(socket), buffer_(std::make_unique_for_overwrite<std::byte[]>(kBuffer)) {
    // Both only make it faster; the first is for TCP alone.
    const int yes = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer));
}

Connection::~Connection() { close(socket_); }

void Connection::on_idle(std::chrono::milliseconds after, Idle idle) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(after);
    const timeval wait{seconds.count(), std::chrono::microseconds(after - seconds).count()};
    if (setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0) fail("setsockopt");
    idle_ = std::move(idle);
}

size_t Connection::receive(std::span<iovec> pieces) {
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    while (true) {
        const ssize_t got = recvmsg(socket_, &message, 0);
        if (got > 0) return static_cast<size_t>(got);
        if (got == 0 || errno == ECONNRESET) throw Disconnected();
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) fail("recvmsg");
        // Nothing has arrived for the time that `on_idle` was given.
        pollfd readable{socket_, POLLIN, 0};
        int ready = 0;
        do {
            const auto wait = idle_ ? idle_().count() : -1;
            ready = poll(&readable, 1, wait < 0 ? -1 : static_cast<int>(std::min<int64_t>(wait, INT_MAX)));
        } while (ready == 0 || (ready < 0 && errno == EINTR));
    }
}

void Connection::require(size_t count) {
    if (available() >= count) return;
    std::memmove(buffer_.get(), buffer_.get() + begin_, available());
    end_ -= begin_;
    begin_ = 0;
    while (end_ < count) {
        iovec rest{buffer_.get() + end_, kBuffer - end_};
        end_ += receive({&rest, 1});
    }
}

uint8_t Connection::read_byte() {
    require(1);
    return static_cast<uint8_t>(buffer_[begin_++]);
}

int32_t Connection::read_int() {
    require(sizeof(int32_t));
    uint32_t number = 0;
    std::memcpy(&number, buffer_.get() + begin_, sizeof(number));
    begin_ += sizeof(number);
    if constexpr (std::endian::native == std::endian::little) number = __builtin_bswap32(number);
    return static_cast<int32_t>(number);
}

void Connection::read_text(std::string& text, int32_t length) {
    if (length < 0) throw ProtocolError("a text of negative length");
    text.clear();
    for (auto left = static_cast<size_t>(length); left > 0;) {
        const size_t step = std::min(left, kTextStep);
        const size_t before = text.size();
        if (step <= available()) {
            text.append(reinterpret_cast<const char*>(buffer_.get() + begin_), step);
            begin_ += step;
        } else {
            text.resize(before + step);
            read_bytes(std::as_writable_bytes(std::span(text)).subspan(before));
        }
        left -= step;
    }
}

void Connection::read_bytes(std::span<std::byte> out) {
    const size_t buffered = std::min(out.size(), available());
    if (buffered > 0) std::memcpy(out.data(), buffer_.get() + begin_, buffered);
    begin_ += buffered;
    out = out.subspan(buffered);
    while (!out.empty()) {
        // What follows the body goes into the buffer, which is empty.
        iovec pieces[] = {{out.data(), out.size()}, {buffer_.get(), kBuffer}};
        const size_t got = receive(pieces);
        if (got > out.size()) {
            begin_ = 0;
            end_ = got - out.size();
        }
        out = out.subspan(std::min(got, out.size()));
    }
}

void Connection::skip(uint64_t length) {
    while (length > 0) {
        require(1);
        const size_t step = std::min<uint64_t>(length, available());
        begin_ += step;
        length -= step;
    }
}

void Connection::send(std::span<iovec> pieces) {
    while (!pieces.empty()) {
        msghdr message{};
        message.msg_iov = pieces.data();
        message.msg_iovlen = std::min<size_t>(pieces.size(), IOV_MAX);
        const ssize_t sent = sendmsg(socket_, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            fail("sendmsg");
        }
        auto left = static_cast<size_t>(sent);
        while (!pieces.empty() && left >= pieces.front().iov_len) {
            left -= pieces.front().iov_len;
            pieces = pieces.subspan(1);
        }
        if (left > 0) {
            pieces.front().iov_base = static_cast<char*>(pieces.front().iov_base) + left;
            pieces.front().iov_len -= left;
        }
    }
}

void Connection::shut_down() { shutdown(socket_, SHUT_RDWR); }

}  // namespace opserve::native
