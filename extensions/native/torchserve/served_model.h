// A model behind TorchServe: loads what a load message names, and answers batches with it. What
// OpserveHandler is to the Python worker.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "../model.h"
#include "answers.h"
#include "messages.h"
#include "metrics.h"

namespace opserve::native {

class ServedModel {
  public:
    // Checks and loads the unpacked archive. Throws ModelError, std::bad_alloc, OutOfMemoryError,
    // std::exception.
    ServedModel(const LoadMessage& message, const DeclaredMetrics& declared);

    // Answers a batch: puts the answers into the message, which refers to them until the next call.
    void answer(Batch& batch, AnswerMessage& message);
    // Call after the message was sent: reports what the batch took, and lets go of its answers.
    void finish(const Batch& batch);
    // Reports what is still to be reported. Returns how long until that is due, or a negative time if nothing
    // is.
    std::chrono::milliseconds report_rest();

    // Reports what is left, for a worker that ends.
    void flush();

    // Why this process can run the model no longer, or empty.
    const std::string& broken() const { return model_->broken(); }

  private:
    std::vector<Response> respond(Batch& batch);

    std::unique_ptr<ServableModel> model_;
    std::optional<CountReporter> counts_;
    std::optional<DurationReporter> handler_time_, prediction_time_;
    std::vector<Response> responses_;
    std::string description_;
    // Of the last batch.
    Clock::time_point begun_, handled_;
    bool described_ = false;
};

}  // namespace opserve::native
