// Reports a model's metrics to TorchServe: lines on stdout, with labels that they can hold. See
// handlers/torchserve/metrics.py, handlers/metrics.py and log_throttle.py.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../model.h"
#include "metrics_config.h"

namespace opserve::native {

using Clock = std::chrono::steady_clock;

// The shortest time between two reports.
inline constexpr std::chrono::milliseconds kReportInterval{1000};

// Returns a value as a line can hold it: in one line, without the line's separators, of at most 200
// characters.
std::string make_label(std::string_view value);

// A number as Python writes it: "3", "0.25", "1e-05", "2.0".
std::string metric_value(uint64_t value);
std::string metric_value(double value);

// Reports how long batches take: a gauge, of which only the last value is ever seen.
class DurationReporter {
  public:
    // `model` is what the server calls it.
    DurationReporter(std::string metric, std::string model)
        : metric_(std::move(metric)), model_(std::move(model)) {}

    // Whether the last report is the interval ago, or there was none.
    bool is_due(Clock::time_point now) const { return now >= due_; }
    void report(Clock::duration taken, Clock::time_point now,
                const std::vector<std::string_view>& request_ids);

  private:
    std::string metric_, model_;
    Clock::time_point due_ = Clock::time_point::min();
};

// Reports the increments of a model's counts.
class CountReporter {
  public:
    // Reports what is served at once.
    explicit CountReporter(const ServableModel& model);

    // Call after the counts have changed, and when the result of the last call is due: reports unless that
    // was done less than the interval ago. Returns how long to wait for the next report; nothing if all is
    // reported.
    std::optional<std::chrono::milliseconds> report(Clock::time_point now);

    // Reports what is left, for a worker that ends.
    void flush();

    // Whether the metrics of the handler are declared, all of them.
    static bool are_declared(const DeclaredMetrics& declared);

  private:
    bool has_changed() const;
    void write_all();

    const ServableModel& model_;
    std::string labels_;  // those of every line
    Clock::time_point due_;
    Counts reported_;
    bool first_ = true;
};

}  // namespace opserve::native
