// Joins the inputs of several requests into one call of the model, and splits its outputs: handlers/batching.py.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "../common/array.h"
#include "../config.h"

namespace opserve::native {

class Batcher {
  public:
    virtual ~Batcher() = default;
    // Throws RequestError for inputs that cannot be joined with any others; may fill in an absent optional input.
    virtual void check(Arrays& inputs) const = 0;
    // Whether two requests can share a call.
    virtual bool joins(const Arrays& left, const Arrays& right) const = 0;
    virtual Arrays join(std::span<const Arrays* const> requests) const = 0;
    // Throws ModelError: an output's first dimension is not that of the joined requests.
    virtual std::vector<Arrays> split(const Arrays& outputs, std::span<const Arrays* const> requests) const = 0;
};

std::unique_ptr<Batcher> make_batcher(const ModelConfig& config);

}  // namespace opserve::native
