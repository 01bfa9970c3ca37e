// What registration has to know about the runtime and the session's options.
#pragma once

#include "api.h"

namespace opserve::ort_binding {

// Before 1.24 the runtime dereferences null when it infers shapes for a node without an optional input.
bool infers_with_absent_inputs(const char* runtime_version);

// A session refuses a domain that it already has, so its options record which library registered it. Writes
// the library's name into them; `registered` is whether it was there already, and the name of another library
// is an error.
OrtStatus* note_library(const OrtApi& api, const char* library, OrtSessionOptions* options, bool* registered);

}  // namespace opserve::ort_binding
