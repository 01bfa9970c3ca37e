// Requests to the codecs of the native worker: for each number one, sound or damaged.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codecs/budget.h"
#include "codecs/shared_memory.h"
#include "fuzz_case.h"
#include "signature/signature.h"

namespace fuzz {

using opserve::native::DType;
using opserve::native::Limits;
using opserve::native::Shape;
using opserve::native::SharedMemory;
using opserve::native::Signature;
using opserve::native::TensorSpec;

// What a decoder has to know of a model.
struct Model {
    Signature specs;
    Limits limits;
    SharedMemory memory;
};
const std::vector<Model>& models();

// A request in bytes.
struct Message {
    struct Part {
        std::string name, type, content;
    };
    std::vector<Part> parts;
    std::vector<std::pair<std::string, std::string>> headers;
    // The numbers of each input, by name, if the request is sound and they are known.
    std::map<std::string, std::vector<double>> expected;
    bool sound = true;
};

struct Kind {
    const char* name;
    // Makes a sound request to a model, if the model takes one of this kind.
    std::optional<Message> (*make)(Random&, const Model&);
};
extern const std::vector<Kind> kinds;

// Changes bytes, lengths or pieces of a request, which is then no longer sound.
void damage(Random& random, Message& message);

// The regions of shared memory that requests name, as long as it lives.
class SharedRegions {
  public:
    SharedRegions();
    SharedRegions(const SharedRegions&) = delete;
    ~SharedRegions();
    static const std::string& prefix();
    // For a process that a report ends.
    static void remove();
};

}  // namespace fuzz
