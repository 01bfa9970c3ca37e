// Answers in place of a model that does not load, so that its requests end instead of waiting forever:
// TorchServe queues requests until a worker takes them, has no time-out for that, and gives up a worker that
// has not loaded for five minutes. The files are those of handlers/torchserve/stand_in.py, which `make
// status` reads.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "../integrity/files.h"
#include "answers.h"
#include "messages.h"

namespace opserve::native {

// The failed attempts of one worker to load its model, recorded next to the unpacked archive. A worker that
// scaling starts has another socket, and therefore no failures: it tries at once.
class Attempts {
  public:
    // `worker` distinguishes the workers of a model, and stays the same when TorchServe restarts one.
    Attempts(const std::filesystem::path& folder, std::string_view worker);

    int64_t failures() const { return failures_; }
    const std::string& error() const { return error_; }
    // Seconds until the next attempt; 0 if it is due, or if the clock was set back.
    double left_s() const;
    // Whether a stand-in should answer for now: the model fails to load, and no other worker has loaded it.
    bool needs_stand_in() const;
    // Whether another worker of the model has loaded it and is alive.
    bool another_serves() const;

    // Records a failure before the attempt: a worker that is killed could not do so later.
    void begin();
    // Records why the attempt failed.
    void fail(std::string_view error);
    // Clears the failures, and marks the model as loaded for as long as this worker lives.
    void succeed();
    // Records that this process stands in, for commands that show the model's state.
    void record_stand_in() const;

  private:
    void record_failure(std::string_view error);
    void write(bool stands_in) const;

    std::filesystem::path path_, serving_;
    int64_t failures_ = 0;
    double last_ = 0;  // seconds since the epoch
    std::string error_;
    Descriptor lock_;
};

// Answers every request of a model with 503 until the next attempt to load it is due.
class StandIn {
  public:
    explicit StandIn(const Attempts& attempts);

    // The reason is in the log, and not for clients.
    void answer(Batch& batch, AnswerMessage& message) const;

    // Whether it is time to make way; and how long until that is to be asked again.
    bool is_over() const;
    std::chrono::milliseconds next_look() const;

  private:
    const Attempts& attempts_;
    std::chrono::steady_clock::time_point until_;
};

}  // namespace opserve::native
