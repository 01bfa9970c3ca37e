// Joins the inputs of several requests into one call of the model, and splits its outputs:
// handlers/batching.py.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "../common/array.h"
#include "../config.h"

namespace opserve::native {

// Hooks may have made the arrays: whatever their names, dtypes and shapes, nothing is read or written outside
// of them. What cannot be joined or split throws std::runtime_error, apart from the errors below.
class Batcher {
  public:
    virtual ~Batcher() = default;
    // Throws RequestError for inputs that cannot be joined with any others; may fill in an absent optional
    // input.
    virtual void check(Arrays& inputs) const = 0;
    // Whether two requests can share a call.
    virtual bool joins(const Arrays& left, const Arrays& right) const = 0;
    // Returns the inputs of one call for requests that can share it; those of a single request are views of
    // its own. Throws ModelError: the joined graph is too large for its indices.
    virtual Arrays join(std::span<const Arrays* const> requests) const = 0;
    // Returns the outputs of each request, as views. Throws ModelError: an output's first dimension is not
    // that of the joined requests.
    virtual std::vector<Arrays> split(const Arrays& outputs,
                                      std::span<const Arrays* const> requests) const = 0;
};

std::unique_ptr<Batcher> make_batcher(const ModelConfig& config);

// Returns the positions of the requests (null: one that was refused) in groups that can share a call, each in
// order. `hooked`: a hook made the inputs, so that their names and dtypes may differ too.
std::vector<std::vector<size_t>> group(std::span<const Arrays* const> requests, const Batcher& batcher,
                                       bool hooked);

// Throws ModelError if an output of one request has another dtype or shape than the signature promises.
void check_outputs(const Arrays& outputs, const Signature& specs);

}  // namespace opserve::native
