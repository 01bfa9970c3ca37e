// How TorchServe starts a worker of `--runtime LSP`.
#pragma once

#include <optional>
#include <string>

namespace opserve::native {

struct Arguments {
    std::optional<std::string> socket;  // the path of a Unix socket; otherwise `port` of 127.0.0.1
    int port = 0;
    std::string metrics_config;

    // Options may be written with '_' or '-'; those that TorchServe gives and nobody needs are ignored.
    // Throws std::invalid_argument.
    static Arguments parse(int count, char** values);
};

}  // namespace opserve::native
