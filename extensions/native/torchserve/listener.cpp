#include "listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace opserve::native {
namespace {

[[noreturn]] void fail(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

void bind_or_fail(int socket, const void* address, socklen_t length, const std::string& name) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(socket, static_cast<const sockaddr*>(address), length) != 0) fail("cannot listen on " + name);
}

}  // namespace

Listener::Listener(const Arguments& arguments)
    : socket_(::socket(arguments.socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (!socket_) fail("socket");
    if (arguments.socket) {
        sockaddr_un address{};
        if (arguments.socket->size() >= sizeof(address.sun_path))
            throw std::invalid_argument("the path of the socket is too long: " + *arguments.socket);
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, arguments.socket->c_str(), arguments.socket->size() + 1);
        if (unlink(arguments.socket->c_str()) != 0 && errno != ENOENT)
            throw std::runtime_error("socket already in use: " + *arguments.socket);
        address_ = *arguments.socket;
        bind_or_fail(socket_.get(), &address, sizeof(address), address_);
        path_ = *arguments.socket;
    } else {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<uint16_t>(arguments.port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address_ = "127.0.0.1:" + std::to_string(arguments.port);
        bind_or_fail(socket_.get(), &address, sizeof(address), address_);
    }
    if (listen(socket_.get(), 1) != 0) fail("listen");
}

Descriptor Listener::accept() const {
    pollfd readable{socket_.get(), POLLIN, 0};
    int ready = 0;
    do {
        ready = poll(&readable, 1, kAcceptSeconds * 1000);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) fail("poll");
    if (ready == 0) return Descriptor();
    Descriptor connected(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connected) fail("accept");
    return connected;
}

void Listener::remove() const {
    if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace opserve::native
