// The metrics that TorchServe's metrics_config declares for workers; it drops all others.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace opserve::native {

// (type, name), such as ("counter", "opserve_requests_total").
using DeclaredMetrics = std::set<std::pair<std::string, std::string>, std::less<>>;

// Finds the names in the `model_metrics` section of a YAML text, in block or flow style.
DeclaredMetrics find_declared_metrics(std::string_view text);

// The same for a file. Throws std::runtime_error: it cannot be read.
DeclaredMetrics read_declared_metrics(const std::string& path);

}  // namespace opserve::native
