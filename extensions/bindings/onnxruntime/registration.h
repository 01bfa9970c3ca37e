// What registering the operators has to know of the runtime and of the session's options.
#pragma once

#include "api.h"

namespace opserve::ort_binding {

// Before 1.24 the runtime follows a null pointer when it infers shapes for a node that leaves an optional
// input out.
bool infers_with_absent_inputs(const char* runtime_version);

// A session refuses a domain that it has already, so the options say which library gave it. Writes the
// library's name into them; `registered` is whether it stood there already, and the name of another library
// is an error.
OrtStatus* note_library(const OrtApi& api, const char* library, OrtSessionOptions* options, bool* registered);

}  // namespace opserve::ort_binding
