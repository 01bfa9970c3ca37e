#include "stand_in.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "../common/errors.h"
#include "../integrity/json.h"
#include "worker_log.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

// A worker that fails less often ends with its error in the log, which a start or a deploy reports at once.
constexpr int64_t kPatience = 3;
// Seconds between two attempts to load.
constexpr double kFirstPause = 5, kLongestPause = 60;
// How soon a stand-in makes way once another worker of the model has loaded.
constexpr std::chrono::milliseconds kPoll{1000};
constexpr size_t kErrorLength = 400;
constexpr int kUnavailable = 503;

double now_s() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// As few blanks as possible, and at most `limit` bytes of whole characters.
std::string in_one_line(std::string_view text, size_t limit) {
    std::string line;
    bool blank = false;
    for (const char c : text) {
        if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f')) {
            blank = !line.empty();
            continue;
        }
        if (blank) line += ' ';
        blank = false;
        line += c;
    }
    if (line.size() > limit) {
        while (limit > 0 && (static_cast<unsigned char>(line[limit]) & 0xc0) == 0x80) --limit;
        line.resize(limit);
    }
    return line;
}

std::string read_file(const fs::path& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file) throw std::invalid_argument("no record");
    std::string text(size_t{1} << 14, '\0');
    text.resize(read_some(file.get(), text.data(), text.size()));
    return text;
}

double number(const Json& json) {
    if (const auto* integer = json.as<int64_t>()) return static_cast<double>(*integer);
    if (const auto* value = json.as<double>()) return *value;
    throw std::invalid_argument("not a number");
}

}  // namespace

Attempts::Attempts(const fs::path& folder, std::string_view worker) {
    const std::string name = '.' + folder.filename().native() + '.';
    path_ = folder.parent_path() / (name + std::string(worker) + ".load");
    serving_ = folder.parent_path() / (name + "serving");
    try {
        const Json state = parse_json(read_file(path_));
        const Json *failures = state.find("failures"), *last = state.find("last"),
                   *error = state.find("error");
        if (failures == nullptr || last == nullptr || error == nullptr || error->as<std::string>() == nullptr)
            return;
        const double count = number(*failures);
        last_ = number(*last);
        failures_ = static_cast<int64_t>(std::clamp(count, 0.0, 1e15));
        error_ = *error->as<std::string>();
    } catch (const std::exception&) {
        // A damaged record counts as no failures.
        last_ = 0;
    }
}

double Attempts::left_s() const {
    const auto doublings = static_cast<int>(std::clamp<int64_t>(failures_ - kPatience, 0, 10));
    const double pause = std::min(kLongestPause, std::ldexp(kFirstPause, doublings));
    const double since = now_s() - last_;
    return since >= 0 && since < pause ? pause - since : 0;
}

bool Attempts::needs_stand_in() const { return failures_ >= kPatience && left_s() > 0 && !another_serves(); }

bool Attempts::another_serves() const {
    const Descriptor file(open(serving_.c_str(), O_RDWR | O_CLOEXEC));
    if (!file) return false;
    return flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

void Attempts::begin() {
    ++failures_;
    record_failure("it ended while it loaded");
}

void Attempts::fail(std::string_view error) { record_failure(error); }

void Attempts::succeed() {
    unlink(path_.c_str());
    lock_ = Descriptor(open(serving_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (lock_) flock(lock_.get(), LOCK_SH);
}

void Attempts::record_stand_in() const { write(true); }

void Attempts::record_failure(std::string_view error) {
    last_ = now_s();
    error_ = printable(in_one_line(error, kErrorLength), kErrorLength);
    write(false);
}

// If it fails, the worker ends each time, as it would without this.
void Attempts::write(bool stands_in) const {
    JsonObject state;
    state.emplace("failures", Json{failures_});
    state.emplace("last", Json{last_});
    state.emplace("error", Json{error_});
    if (stands_in) state.emplace("stands_in", Json{int64_t{getpid()}});
    const std::string text = write_json(Json{std::move(state)}, false);
    fs::path fresh = path_;
    fresh.replace_extension(".new");
    const Descriptor file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return;
    std::rename(fresh.c_str(), path_.c_str());
}

StandIn::StandIn(const Attempts& attempts)
    : attempts_(attempts),
      until_(steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(
                                       std::chrono::duration<double>(attempts.left_s()))) {
    attempts_.record_stand_in();
    char seconds[32];
    std::snprintf(seconds, sizeof(seconds), "%.0f", attempts_.left_s());
    write_log("the model failed to load " + std::to_string(attempts_.failures()) + " times (" +
              attempts_.error() + "); requests are answered 503, and the next attempt is in " + seconds +
              " s");
}

void StandIn::answer(Batch& batch, AnswerMessage& message) const {
    static constexpr const char* kMessage =
        "the model could not be loaded; loading is tried again, and the server's log says why it failed";
    const double left = std::chrono::duration<double>(until_ - steady_clock::now()).count();
    Response refusal;
    refusal.status = kUnavailable;
    refusal.content_type = "application/json";
    refusal.body = R"({"error": {"code": 503, "field": null, "message": ")" + std::string(kMessage) + "\"}}";
    refusal.headers.emplace_back("Retry-After", std::to_string(std::max(1L, std::lround(left))));
    const std::string description =
        "{\"pid\": " + std::to_string(getpid()) + ", \"error\": \"" + kMessage + "\"}";
    message.begin(200, "Prediction success");
    for (size_t i = 0; i < batch.size(); ++i) {
        if (batch.is_marked_description(i))
            message.add_text(batch.id(i), description);
        else
            message.add(batch.id(i), refusal, batch.by_grpc(i));
    }
}

bool StandIn::is_over() const { return steady_clock::now() >= until_ || attempts_.another_serves(); }

std::chrono::milliseconds StandIn::next_look() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until_ - steady_clock::now());
    return std::clamp(left, std::chrono::milliseconds(1), kPoll);
}

}  // namespace opserve::native
