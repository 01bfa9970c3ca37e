// A servable model: one response per request, independent of any server: handlers/model.py.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "batching/batching.h"
#include "codecs/encode.h"
#include "codecs/request.h"
#include "config.h"
#include "engines/engine.h"

namespace opserve::native {

// What the model has done since it was ready; as handlers/metrics.py has them.
struct Counts {
    uint64_t requests = 0, batches = 0, model_calls = 0;
    double decode_s = 0, collate_s = 0, inference_s = 0, encode_s = 0;
    std::map<std::pair<int, std::string>, uint64_t>
        rejected;  // by status and input at fault ("": the request)
};

class ServableModel {
  public:
    // Reads the configuration, loads the engine and warms it up. `device_index` is the GPU that the server
    // gave this worker. Throws ModelError.
    ServableModel(const std::filesystem::path& folder, std::optional<int> device_index, ModelName name);
    ~ServableModel();

    // One response per request, in their order. Never throws because of a request.
    std::vector<Response> answer(std::span<Request> requests);

    // The body of the response to the archive's sample request. Throws ModelError: the request is refused.
    std::string answer_sample(Request& request);

    // The description of the management API, as JSON: the object's members without its braces.
    std::string describe() const;

    const ModelConfig& config() const;
    const ModelName& name() const;
    const Counts& counts() const;
    const Engine& engine() const;
    // The hash of each operator library.
    const std::vector<std::pair<std::string, std::string>>& libraries() const;
    // Why this process can run the model no longer, or empty.
    const std::string& broken() const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

// Where an unpacked archive has its sample request.
std::filesystem::path sample_folder(const std::filesystem::path& folder);
// Reads the sample request of an unpacked archive: one part per file, named by its stem; `body.json` alone is
// a whole body. Throws ModelError: there is none.
Request read_sample_request(const std::filesystem::path& folder);

}  // namespace opserve::native
