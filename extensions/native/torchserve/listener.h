// The socket on which a worker waits for the only connection that it ever has: that of TorchServe's frontend.
#pragma once

#include <string>

#include "../integrity/files.h"
#include "arguments.h"

namespace opserve::native {

class Listener {
  public:
    // Replaces a socket of the same path that an earlier worker left behind. Throws std::system_error, and
    // std::invalid_argument: a path that no socket can have.
    explicit Listener(const Arguments& arguments);
    // Returns the connected socket, or nothing if nobody has connected in time. Throws std::system_error.
    Descriptor accept() const;

    // What it listens on, for a log.
    const std::string& address() const { return address_; }

    // Removes the socket's file.
    void remove() const;

  private:
    Descriptor socket_;
    std::string path_, address_;
};

// Seconds that `accept` waits.
inline constexpr int kAcceptSeconds = 30;

}  // namespace opserve::native
