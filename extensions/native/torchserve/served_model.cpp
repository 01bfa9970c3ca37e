#include "served_model.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <stdexcept>
#include <utility>

#include "../codecs/encode.h"
#include "../integrity/check.h"
#include "../integrity/json.h"
#include "../integrity/runtimes.h"
#include "switches.h"
#include "worker_log.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStep = "handling the batch";

// What the packer called the model; the server may know it by another name.
ModelName read_name(const fs::path& folder) {
    std::ifstream file(folder / "MAR-INF" / "MANIFEST.json", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file) return {};
    ModelName found;
    try {
        const Json document = parse_json(text);
        const Json* model = document.find("model");
        const auto member = [model](const char* name) {
            const Json* value = model == nullptr ? nullptr : model->find(name);
            const auto* text = value == nullptr ? nullptr : value->as<std::string>();
            if (text != nullptr) return *text;
            return value == nullptr ? std::string() : write_json(*value, false);
        };
        found = {member("modelName"), member("modelVersion")};
    } catch (const std::invalid_argument& error) {
        throw ModelError(std::string("MAR-INF/MANIFEST.json: not JSON: ") + error.what());
    }
    return found;
}

// Refuses a GPU that the operator libraries have no code for.
void check_gpu(const Manifest& manifest, const fs::path& folder, int index) {
    if (!torch_has_cuda() || ModelConfig::read(folder / "model-config.json").device == "cpu") return;
    if (const auto capability = gpu_capability(index)) manifest.check_gpu(*capability);
}

// TorchServe's envelopes take requests apart before the Python worker's handler gets them. Here none would,
// so that answers would differ.
void refuse_envelope(const std::string& envelope) {
    if (envelope.empty()) return;
    throw ModelError("config.properties: service_envelope=" + printable(envelope, kMaxMessage) +
                     " takes requests apart before they can be read here; take the line out");
}

std::unique_ptr<ServableModel> load(const LoadMessage& message) {
    const fs::path folder = message.model_path;
    const Manifest manifest = check_archive(folder);
    if (message.gpu) check_gpu(manifest, folder, *message.gpu);
    refuse_envelope(message.envelope);
    return std::make_unique<ServableModel>(folder, message.gpu, read_name(folder));
}

std::vector<Response> refuse_all(const RequestError& error, size_t count, const ModelName& name) {
    return std::vector<Response>(count, encode_error(error, ResponseFormat{}, name));
}

}  // namespace

ServedModel::ServedModel(const LoadMessage& message, const DeclaredMetrics& declared)
    : model_(load(message)) {
    const ModelName& name = model_->name();
    write_log(name.name + ' ' + name.version + ": {" + model_->describe() + '}');
    const bool enabled = is_enabled(kMetricsSwitch);
    if (!enabled) return;
    prediction_time_.emplace("PredictionTime", message.model_name);
    handler_time_.emplace("HandlerTime", message.model_name);
    if (CountReporter::are_declared(declared))
        counts_.emplace(*model_);
    else
        write_log("no metrics of the handler: the server's metrics_config does not declare them");
}

void ServedModel::answer(Batch& batch, AnswerMessage& message) {
    begun_ = Clock::now();
    message.begin(200, "Prediction success");
    described_ = batch.size() == 1 && batch.is_description(0);  // GET /models/NAME?customized=true
    if (described_) {
        description_ = '{' + model_->describe() + ", \"pid\": " + std::to_string(getpid()) + '}';
        message.add_text(batch.id(0), description_);
    } else {
        responses_ = respond(batch);
        for (size_t i = 0; i < batch.size(); ++i) message.add(batch.id(i), responses_[i], batch.by_grpc(i));
    }
    handled_ = Clock::now();
}

// Requests answer for their own errors; what is caught here is the worker's.
std::vector<Response> ServedModel::respond(Batch& batch) {
    const auto failed = [](const std::string& how, int status) {
        return RequestError(kStep + how, std::nullopt, status);
    };
    const auto all = [&](const RequestError& error) {
        return refuse_all(error, batch.size(), model_->name());
    };
    try {
        std::vector<Response> responses = model_->answer(batch.requests());
        if (responses.size() == batch.size()) return responses;
        return all(failed(" failed: " + std::to_string(responses.size()) + " responses to " +
                              std::to_string(batch.size()) + " requests",
                          500));
    } catch (const std::bad_alloc&) {
        write_log(std::string(kStep) + " ran out of memory");
        return all(failed(" ran out of memory", 507));
    } catch (const std::exception& error) {
        write_log(std::string(kStep) + " failed: " + last_line(error.what()));
        return all(failed(" failed: " + last_line(error.what()), 500));
    }
}

void ServedModel::finish(const Batch& batch) {
    responses_.clear();
    const Clock::time_point now = Clock::now();
    if (counts_) counts_->report(now);
    const auto report = [&](std::optional<DurationReporter>& reporter) {
        if (!reporter || !reporter->is_due(now)) return;
        std::vector<std::string_view> ids;
        for (size_t i = 0; i < batch.size(); ++i) ids.emplace_back(batch.id(i));
        reporter->report(handled_ - begun_, now, ids);
    };
    // As TorchServe's own handlers do, together with the counts.
    if (counts_ && !described_) report(handler_time_);
    report(prediction_time_);
}

std::chrono::milliseconds ServedModel::report_rest() {
    const auto rest = counts_ ? counts_->report(Clock::now()) : std::nullopt;
    return rest.value_or(std::chrono::milliseconds(-1));
}

void ServedModel::flush() {
    if (counts_) counts_->flush();
}

}  // namespace opserve::native
