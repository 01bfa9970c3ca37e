// One engine per artifact format, behind one interface: arrays in, arrays out. Each is a library of its own,
// so that a worker maps only the runtime that it uses.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../common/array.h"
#include "../config.h"

namespace opserve::native {

class Engine {
  public:
    virtual ~Engine() = default;

    // Calls the model; an optional input may be absent. The outputs are those of the configuration, in its
    // order. Throws ModelError: it returned something other than the outputs of its signature; RequestError:
    // one of our operators refuses these inputs; OutOfMemoryError; DeviceError; std::exception: anything
    // else.
    virtual Arrays run(const Arrays& inputs) = 0;

    // Where it runs: "cpu", "cuda:0".
    virtual const std::string& device() const = 0;
    // Whether an output may be memory that the next run overwrites.
    virtual bool lends_outputs() const = 0;
    // Format and runtime with its version, as describe() and the metrics have them.
    virtual const std::string& format() const = 0;
    virtual const std::string& runtime() const = 0;
    // What describe() adds for this engine (execution providers): the JSON of more members, each preceded by
    // a comma.
    virtual std::string describe_more() const { return {}; }
};

// A TorchScript module whose `preprocess` and `postprocess` both workers run on the arrays of one request.
class Hooks {
  public:
    virtual ~Hooks() = default;
    virtual bool has_preprocess() const = 0;
    virtual bool has_postprocess() const = 0;
    // The arrays that the script returns, in its order. Throw RequestError for what it refuses by raising
    // ValueError, about the input that the message names first, in quotes; OutOfMemoryError; std::exception
    // for its own failures. The script may write to the arrays that it is given.
    virtual Arrays preprocess(const Arrays& inputs) = 0;
    virtual Arrays postprocess(const Arrays& outputs) = 0;
};

// Opens the operator libraries, then the artifact, with the engine for its format. `config` must outlive the
// engine. Throws ModelError.
std::unique_ptr<Engine> load_engine(const std::filesystem::path& folder, const ModelConfig& config,
                                    std::optional<int> device_index);
// Opens the hooks of a configuration that names some. Throws ModelError: they are not a TorchScript module
// with such a method.
std::unique_ptr<Hooks> load_hooks(const std::filesystem::path& folder, const ModelConfig& config);

// For engines. Returns the path of the artifact. Throws ModelError if there is no such file.
std::filesystem::path artifact_path(const std::filesystem::path& folder, const ModelConfig& config);
// The error for `device: cuda` without a GPU to run on.
ModelError missing_gpu_error(std::string_view cause);

// What each engine's library exports; `load_engine` opens it from beside this program (../lib). The receiver
// deletes the object. Of the two libraries, that of PyTorch has hooks.
using OpenEngine = Engine* (*)(const std::filesystem::path&, const ModelConfig&, std::optional<int>);
using OpenHooks = Hooks* (*)(const std::filesystem::path&, const ModelConfig&);
inline constexpr const char* kOpenEngine = "opserve_open_engine";
inline constexpr const char* kOpenHooks = "opserve_open_hooks";
#define OPSERVE_ENGINE_EXPORT extern "C" __attribute__((visibility("default")))

}  // namespace opserve::native
