#include "arguments.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <stdexcept>
#include <string_view>

namespace opserve::native {
namespace {

constexpr int kMaxPort = 65'535;

int parse_port(const std::string& text) {
    int port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || port < 1 || port > kMaxPort)
        throw std::invalid_argument("--port: expected a number from 1 to 65535, got " + text);
    return port;
}

}  // namespace

Arguments Arguments::parse(int count, char** values) {
    std::map<std::string, std::string> given;
    for (int i = 1; i < count; i += 2) {
        std::string name = values[i];
        if (!name.starts_with("--")) throw std::invalid_argument("expected an option, got " + name);
        if (i + 1 == count) throw std::invalid_argument(name + " needs a value");
        std::ranges::replace(name, '-', '_');
        given[name.substr(2)] = values[i + 1];
    }
    Arguments arguments;
    const std::string type = given["sock_type"];
    if (type == "unix") {
        if (given["sock_name"].empty()) throw std::invalid_argument("--sock_type unix needs --sock_name");
        arguments.socket = given["sock_name"];
    } else if (type == "tcp") {
        arguments.port = parse_port(given["port"]);
    } else {
        throw std::invalid_argument("--sock_type: expected unix or tcp, got '" + type + "'");
    }
    arguments.metrics_config =
        given["metrics_config_path"].empty() ? given["metrics_config"] : given["metrics_config_path"];
    return arguments;
}

}  // namespace opserve::native
