#include "registration.h"

#include <cstdio>
#include <cstring>

namespace opserve::ort_binding {

bool infers_with_absent_inputs(const char* runtime_version) {
    int major = 0, minor = 0;
    return std::sscanf(runtime_version, "%d.%d", &major, &minor) == 2 && (major > 1 || minor >= 24);
}

OrtStatus* note_library(const OrtApi& api, const char* library, OrtSessionOptions* options,
                        bool* registered) {
    constexpr const char* key = "opserve.library";
    int exists = 0;
    OPSERVE_ORT_RETURN_IF_ERROR(api.HasSessionConfigEntry(options, key, &exists));
    if (!exists) return api.AddSessionConfigEntry(options, key, library);
    char earlier[64] = "another library";
    size_t size = sizeof(earlier);
    // A name longer than any of ours is not ours.
    static_cast<void>(succeeded(api, api.GetSessionConfigEntry(options, key, earlier, &size)));
    *registered = std::strcmp(earlier, library) == 0;
    if (*registered) return nullptr;
    return to_ort(api,
                  Status::invalid_argument("opserve: a session takes one of the operator libraries, got %s "
                                           "after %s; the library for a device includes the CPU operators",
                                           library, earlier));
}

}  // namespace opserve::ort_binding
