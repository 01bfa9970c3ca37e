#include "metrics.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <type_traits>

#include "../common/errors.h"
#include "worker_log.h"

namespace opserve::native {
namespace {

constexpr size_t kMaxLabel = 200;
constexpr std::string_view kCounter = "COUNTER", kGauge = "GAUGE", kCount = "Count";

struct Sum {
    std::string_view name, unit;
};
constexpr Sum kSums[] = {
    {"opserve_requests_total", kCount},           {"opserve_batches_total", kCount},
    {"opserve_model_calls_total", kCount},        {"opserve_decode_seconds_total", "seconds"},
    {"opserve_collate_seconds_total", "seconds"}, {"opserve_inference_seconds_total", "seconds"},
    {"opserve_encode_seconds_total", "seconds"},
};
constexpr std::string_view kRejected = "opserve_rejected_requests_total", kModelInfo = "opserve_model_info",
                           kLibraryInfo = "opserve_op_library_info";

const std::string& host_name() {
    static const std::string name = [] {
        std::array<char, 256> text{};
        return gethostname(text.data(), text.size() - 1) == 0 ? std::string(text.data())
                                                              : std::string("unknown");
    }();
    return name;
}

// As ts.metrics.caching_metric writes it.
std::string metric_line(std::string_view name, std::string_view unit, std::string_view value,
                        std::string_view labels, std::string_view type) {
    std::string line = "[METRICS]";
    line.append(name).append(".").append(unit).append(":").append(value).append("|#").append(labels);
    line.append("|#type:").append(type).append("|#hostname:").append(host_name());
    return line.append(",").append(std::to_string(std::time(nullptr)));
}

double rounded(double value, int digits) {
    std::array<char, 400> text{};
    std::snprintf(text.data(), text.size(), "%.*f", digits, value);
    return std::strtod(text.data(), nullptr);
}

std::string label(std::string_view name, std::string_view value) {
    return std::string(name) + ':' + make_label(value);
}

}  // namespace

std::string make_label(std::string_view value) {
    std::string text = printable(value, kMaxLabel);
    for (char& c : text)
        if (c == ':' || c == ',' || c == '|' || c == '#') c = '-';
    return text;
}

std::string metric_value(uint64_t value) { return std::to_string(value); }

std::string metric_value(double value) {
    // A number that is small has an exponent; a large one must not, because the server knows no '+'.
    const bool fixed = value == 0 || std::abs(value) >= 1e-4;
    std::array<char, 400> text{};
    const auto format = fixed ? std::chars_format::fixed : std::chars_format::scientific;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), value, format).ptr;
    std::string digits(text.data(), end);
    if (digits.find_first_of(".e") == std::string::npos) digits += ".0";
    return digits;
}

void DurationReporter::report(Clock::duration taken, Clock::time_point now,
                              const std::vector<std::string_view>& request_ids) {
    due_ = now + kReportInterval;
    const double milliseconds = std::chrono::duration<double, std::milli>(taken).count();
    const std::string labels = label("ModelName", model_) + ",Level:Model";
    std::string line =
        metric_line(metric_, "Milliseconds", metric_value(rounded(milliseconds, 2)), labels, kGauge);
    for (const std::string_view id : request_ids) {
        line += ',';
        line += printable(id, kMaxLabel);
    }
    write_to_server(line);
}

bool CountReporter::are_declared(const DeclaredMetrics& declared) {
    const auto has = [&declared](const char* type, std::string_view name) {
        return declared.contains(std::pair{std::string(type), std::string(name)});
    };
    return std::ranges::all_of(kSums, [&](const Sum& sum) { return has("counter", sum.name); }) &&
           has("counter", kRejected) && has("gauge", kModelInfo) && has("gauge", kLibraryInfo);
}

CountReporter::CountReporter(const ServableModel& model)
    : model_(model),
      labels_(label("model_name", model.name().name) + ',' + label("model_version", model.name().version)),
      due_(Clock::now() + kReportInterval) {
    const Engine& engine = model.engine();
    const std::string info = labels_ + ',' + label("artifact", model.config().artifact) + ',' +
                             label("format", engine.format()) + ',' + label("runtime", engine.runtime()) +
                             ',' + label("device", engine.device());
    write_to_server(metric_line(kModelInfo, kCount, "1", info, kGauge));
    for (const auto& [library, sha256] : model.libraries()) {
        const std::string more = labels_ + ',' + label("library", library) + ',' + label("sha256", sha256);
        write_to_server(metric_line(kLibraryInfo, kCount, "1", more, kGauge));
    }
}

// Nothing is counted without a batch.
bool CountReporter::has_changed() const { return first_ || model_.counts().batches != reported_.batches; }

std::optional<std::chrono::milliseconds> CountReporter::report(Clock::time_point now) {
    if (!has_changed()) return std::nullopt;
    if (now < due_) return std::chrono::ceil<std::chrono::milliseconds>(due_ - now);
    write_all();
    due_ = now + kReportInterval;
    return std::nullopt;
}

void CountReporter::flush() {
    if (has_changed()) write_all();
}

// The first report also includes zeros, so that every sum exists.
void CountReporter::write_all() {
    const Counts& now = model_.counts();
    std::string lines;
    const auto add = [&](std::string_view name, std::string_view unit, const std::string& value,
                         std::string_view labels) {
        if (!lines.empty()) lines += '\n';
        lines += metric_line(name, unit, value, labels, kCounter);
    };
    const auto add_sum = [&](const Sum& sum, auto value, auto before) {
        if (value == before && !first_) return;
        if constexpr (std::is_floating_point_v<decltype(value)>)
            add(sum.name, sum.unit, metric_value(rounded(value - before, 9)), labels_);
        else
            add(sum.name, sum.unit, metric_value(value - before), labels_);
    };
    add_sum(kSums[0], now.requests, reported_.requests);
    add_sum(kSums[1], now.batches, reported_.batches);
    add_sum(kSums[2], now.model_calls, reported_.model_calls);
    add_sum(kSums[3], now.decode_s, reported_.decode_s);
    add_sum(kSums[4], now.collate_s, reported_.collate_s);
    add_sum(kSums[5], now.inference_s, reported_.inference_s);
    add_sum(kSums[6], now.encode_s, reported_.encode_s);
    for (const auto& [key, count] : now.rejected) {
        const auto before = reported_.rejected.find(key);
        const uint64_t reported = before == reported_.rejected.end() ? 0 : before->second;
        if (count == reported) continue;
        const auto& [status, field] = key;
        add(kRejected, kCount, metric_value(count - reported),
            labels_ + ',' + label("code", std::to_string(status)) + ',' +
                label("field", field.empty() ? "none" : field));
    }
    if (!lines.empty()) write_to_server(lines);
    reported_ = now;
    first_ = false;
}

}  // namespace opserve::native
