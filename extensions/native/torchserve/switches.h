// The variables of the environment that switch features of a worker.
#pragma once

namespace opserve::native {

inline constexpr const char* kMetricsSwitch = "OPSERVE_METRICS";

// Whether a variable leaves a feature on; without it it is. Throws ModelError: the value is neither `on` nor
// `off`.
bool is_enabled(const char* name);

}  // namespace opserve::native
