// A note inside a library that says which runtime it was built for. The packer reads it and writes it into
// the archive, so that a worker can refuse a library before opening it. Any library may carry one: this
// header needs nothing else.
#pragma once

#include <cstdint>

namespace opserve {

// The owner of the note is "opserve"; its contents are two numbers.
enum class BuiltFor : std::uint32_t {
    kTorchStableAbi = 1,  // the oldest PyTorch: major, minor
    kOnnxRuntimeApi = 2,  // the API version requested from the runtime, and 0
};

struct BuiltForNote {
    std::uint32_t name_bytes = sizeof(name);
    std::uint32_t contents_bytes = 2 * sizeof(std::uint32_t);
    BuiltFor type;
    char name[8] = "opserve";
    std::uint32_t contents[2];
};

}  // namespace opserve

// Once in a library, outside any function.
#define OPSERVE_BUILT_FOR(kind, first, second)                                                              \
    namespace {                                                                                             \
    [[gnu::section(".note.opserve"), gnu::used, gnu::aligned(4)]] const opserve::BuiltForNote kBuiltFor = { \
        .type = opserve::BuiltFor::kind,                                                                    \
        .contents = {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(second)},                \
    };                                                                                                      \
    }
