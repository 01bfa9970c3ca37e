#include "model.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>

#include "codecs/decode.h"
#include "common/errors.h"
#include "common/log.h"
#include "describe.h"

namespace opserve::native {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Names of headers are in lower case here.
constexpr std::string_view kJsonLengthKey = "inference-header-content-length";

// TorchScript's executor profiles the first call of a shape and compiles in the second.
constexpr int kWarmUpCalls = 3;

// One request between decoding and encoding: its arrays or its error, and the response it asks for.
struct Work {
    Arrays arrays;
    std::optional<RequestError> error;
    ResponseFormat format;
};

// The outputs of one request, or its error.
struct Result {
    Arrays outputs;
    std::optional<RequestError> error;
};

// The error that a request's sender gets for the exception that is being handled: their own in full, ours in
// one line; the log has more.
RequestError as_request_error(std::string_view step) {
    const auto failed = [step] { return std::string(step) + " failed"; };
    const auto out_of_memory = [step](const std::string& reason) {
        const std::string message = std::string(step) + " ran out of memory";
        log(message + reason);
        return RequestError(message, std::nullopt, 507);
    };
    try {
        throw;
    } catch (const RequestError& error) {
        return error;
    } catch (const ModelError& error) {
        log(failed() + ": " + printable(error.what(), kMaxLogged));
        return RequestError(error.what(), std::nullopt, 500);
    } catch (const OutOfMemoryError& error) {
        return out_of_memory(": " + last_line(error.what()));
    } catch (const std::bad_alloc&) {
        return out_of_memory("");
    } catch (const std::exception& error) {
        log(failed() + ": " + error.what());
        return RequestError(failed() + ": " + last_line(error.what()), std::nullopt, 500);
    } catch (...) {
        log(failed());
        return RequestError(failed(), std::nullopt, 500);
    }
}

// The form in which a refused request gets its error, as far as that is known.
ResponseFormat error_format(const Request& request, ResponseFormat format) {
    ResponseFormat made;
    if (request.grpc_infer) {
        made.infer_request = std::move(format.infer_request);
        made.grpc_infer = true;
    } else if (request.open_inference || request.header(kJsonLengthKey) != nullptr) {
        made.text_errors = true;
    } else {
        return format;
    }
    return made;
}

Arrays copied(const Arrays& arrays) {
    Arrays copies;
    copies.reserve(arrays.size());
    for (const auto& [name, array] : arrays) {
        copies.push_back({name, array.copy()});
    }
    return copies;
}

}  // namespace

class ServableModel::State {
  public:
    State(const std::filesystem::path& folder, std::optional<int> device_index, ModelName name)
        : config(ModelConfig::read(folder / kConfigFile)),
          name(std::move(name)),
          engine(load_engine(folder, config, device_index)),
          libraries(hash_libraries(folder, config)),
          batcher_(make_batcher(config)),
          // After the operator libraries, whose operators they may call.
          hooks_(config.hooks ? load_hooks(folder, config) : nullptr) {
        for (const TensorSpec& spec : config.inputs) {
            if (!spec.optional) required_.push_back(spec.name);
        }
        std::sort(required_.begin(), required_.end());
    }

    std::vector<Response> answer(std::span<Request> requests) {
        std::vector<Work> batch = prepare(requests);
        run(batch);
        return encode(batch);
    }

    const ModelConfig config;
    const ModelName name;
    const std::unique_ptr<Engine> engine;
    const Hashes libraries;
    Counts counts;
    std::string broken;

  private:
    bool hooked() const { return hooks_ != nullptr && hooks_->has_preprocess(); }

    // Decodes and checks each request, and passes it through the `preprocess` hook. The requests are
    // independent of each other until here, so that they could be decoded by several threads; a hook is for
    // one at a time.
    std::vector<Work> prepare(std::span<Request> requests) {
        const Clock::time_point begun = Clock::now();
        std::vector<Work> batch;
        batch.reserve(requests.size());
        for (const Request& request : requests) batch.push_back(prepare(request));
        counts.batches += 1;
        counts.requests += requests.size();
        counts.decode_s += seconds(Clock::now() - begun);
        return batch;
    }

    Work prepare(const Request& request) {
        Work work;
        try {
            if (request.refusal) throw *request.refusal;
            if (request.explain) throw RequestError("this model gives no explanations", std::nullopt, 501);
            DecodedRequest decoded = decode_request(request, config.inputs, config.limits, config.memory);
            work.arrays = std::move(decoded.inputs);
            work.format = std::move(decoded.format);
            // Before the hook, so that it can rely on indices.
            batcher_->check(work.arrays);
            if (hooked()) {
                work.arrays = check_inputs(hooks_->preprocess(work.arrays));
                // Fails for this request alone if it cannot be joined with others.
                batcher_->joins(work.arrays, work.arrays);
            }
            if (request.grpc_infer) work.format.grpc_infer = true;
        } catch (...) {
            work.error = as_request_error("preparing the request");
            work.arrays.clear();
            work.format = error_format(request, std::move(work.format));
        }
        return work;
    }

    // Returns what `preprocess` made, if it has the required inputs. Throws ModelError.
    Arrays check_inputs(Arrays made) const {
        for (const std::string& needed : required_) {
            if (find(made, needed) != nullptr) continue;
            std::string names;
            for (const std::string& each : required_) names += (names.empty() ? "" : ", ") + each;
            throw ModelError("preprocess must return a dictionary with the keys " + names);
        }
        return made;
    }

    // Joins the requests that can share a call, runs the model and splits its outputs, which take the places
    // of the inputs; errors stay.
    void run(std::vector<Work>& batch) {
        std::vector<const Arrays*> requests;
        requests.reserve(batch.size());
        for (const Work& work : batch) requests.push_back(work.error ? nullptr : &work.arrays);
        const std::vector<std::vector<size_t>> groups = group(requests, *batcher_, hooked());
        std::vector<const Arrays*> members;
        for (const std::vector<size_t>& each : groups) {
            members.clear();
            for (const size_t position : each) members.push_back(requests[position]);
            std::vector<Result> results = try_together(members, groups.size() > 1);
            for (size_t i = 0; i < each.size(); ++i) {
                batch[each[i]].arrays = std::move(results[i].outputs);
                batch[each[i]].error = std::move(results[i].error);
            }
        }
    }

    // The outputs of each request, or its error; `keep` if the model runs again before they are encoded.
    std::vector<Result> try_together(std::span<const Arrays* const> requests, bool keep) {
        std::vector<Result> results(requests.size());
        try {
            std::vector<Arrays> outputs = run_together(requests, keep);
            for (size_t i = 0; i < results.size(); ++i) results[i].outputs = std::move(outputs.at(i));
            return results;
        } catch (...) {
            if (requests.size() == 1 || !broken.empty()) {
                const RequestError error = as_request_error("running the model");
                for (Result& result : results) result.error = error;
                return results;
            }
        }
        // One of them is at fault, and only its sender should get the error. Those that succeed one by one
        // run again together, so that their responses have the bytes of a batch without the culprit. A model
        // may write to its inputs, and joining does not copy a single request.
        std::vector<size_t> sound;
        std::vector<const Arrays*> again;
        for (size_t i = 0; i < requests.size(); ++i) {
            results[i] = try_alone(*requests[i]);
            if (results[i].error) continue;
            sound.push_back(i);
            again.push_back(requests[i]);
        }
        if (sound.size() > 1 && sound.size() < requests.size()) {
            std::vector<Result> repeated = try_together(again, keep);
            for (size_t i = 0; i < sound.size(); ++i) results[sound[i]] = std::move(repeated[i]);
        }
        return results;
    }

    Result try_alone(const Arrays& request) {
        Arrays copy;
        try {
            copy = copied(request);
        } catch (...) {
            return {{}, as_request_error("running the model")};
        }
        const Arrays* const one = &copy;
        return std::move(try_together({&one, 1}, true)[0]);
    }

    std::vector<Arrays> run_together(std::span<const Arrays* const> requests, bool keep) {
        if (!broken.empty()) throw DeviceError(broken);
        const Clock::time_point begun = Clock::now();
        const Arrays joined = batcher_->join(requests);
        const Clock::time_point called = Clock::now();
        Arrays returned = call(joined, begun, called);
        const Clock::time_point done = Clock::now();
        if (keep && engine->lends_outputs()) returned = copied(returned);
        std::vector<Arrays> outputs = batcher_->split(returned, requests);
        counts.collate_s += seconds(Clock::now() - done);
        for (const Arrays& each : outputs) check_outputs(each, config.outputs);
        return outputs;
    }

    Arrays call(const Arrays& joined, Clock::time_point begun, Clock::time_point called) {
        const auto count = [&] {
            counts.model_calls += 1;
            counts.collate_s += seconds(called - begun);
            counts.inference_s += seconds(Clock::now() - called);
        };
        try {
            Arrays returned = engine->run(joined);
            count();
            return returned;
        } catch (const DeviceError& error) {
            broken = last_line(error.what());
            count();
            throw;
        } catch (...) {
            count();
            throw;
        }
    }

    // Passes each result through the `postprocess` hook and encodes it as its request asked for.
    //
    // The server takes the responses of a batch as one message. If they would be too large together, the
    // largest are not sent, so that small ones do not suffer for them.
    std::vector<Response> encode(std::vector<Work>& batch) {
        const Clock::time_point begun = Clock::now();
        std::vector<Response> responses;
        responses.reserve(batch.size());
        size_t size = 0;
        for (Work& work : batch) {
            responses.push_back(encode(work));
            size += responses.back().body.size();
            // Nobody needs them any more; those of a request with the same memory still hold it.
            work.arrays.clear();
            if (batch.size() > 1) make_room(responses, batch, size);
        }
        counts.encode_s += seconds(Clock::now() - begun);
        return responses;
    }

    void make_room(std::vector<Response>& responses, const std::vector<Work>& batch, size_t& size) {
        while (size > static_cast<size_t>(config.limits.max_response_bytes)) {
            const auto largest =
                std::max_element(responses.begin(), responses.end(),
                                 [](const auto& a, const auto& b) { return a.body.size() < b.body.size(); });
            const size_t length = largest->body.size();
            const RequestError refusal(
                "the answer has " + std::to_string(length) +
                    " bytes, for which its batch of requests has no room; ask again, for less at once "
                    "or for a binary format",
                std::nullopt, 503);
            *largest = refuse(refusal, batch[static_cast<size_t>(largest - responses.begin())].format);
            if (largest->body.size() >= length) break;  // a limit of a few bytes
            size -= length - largest->body.size();
        }
    }

    Response encode(Work& work) {
        if (work.error) return refuse(*work.error, work.format);
        try {
            if (hooks_ != nullptr && hooks_->has_postprocess())
                work.arrays = hooks_->postprocess(work.arrays);
            return encode_outputs(work.arrays, work.format, name, config.limits.max_response_bytes);
        } catch (...) {
            return refuse(as_request_error("answering the request"), work.format);
        }
    }

    Response refuse(const RequestError& error, const ResponseFormat& format) {
        // An invented name would be a new series of the metric, kept forever.
        const bool known =
            error.field() && std::any_of(config.inputs.begin(), config.inputs.end(),
                                         [&](const auto& spec) { return spec.name == *error.field(); });
        counts.rejected[{error.status(), known ? *error.field() : std::string()}] += 1;
        return encode_error(error, format, name);
    }

    const std::unique_ptr<Batcher> batcher_;
    const std::unique_ptr<Hooks> hooks_;
    std::vector<std::string> required_;
};

ServableModel::ServableModel(const std::filesystem::path& folder, std::optional<int> device_index,
                             ModelName name)
    : state_(std::make_unique<State>(folder, device_index, std::move(name))) {
    std::error_code error;
    if (!state_->config.warm_up || !std::filesystem::is_directory(sample_folder(folder), error)) return;
    // Until nothing more is compiled, so that the first user does not wait for that.
    Request request = read_sample_request(folder);
    for (int i = 0; i < kWarmUpCalls; ++i) answer_sample(request);
    state_->counts = Counts{};
}

ServableModel::~ServableModel() = default;

std::vector<Response> ServableModel::answer(std::span<Request> requests) { return state_->answer(requests); }

std::string ServableModel::answer_sample(Request& request) {
    Response response = std::move(answer({&request, 1})[0]);
    if (response.status != 200) throw ModelError("the sample request is refused: " + response.body);
    return std::move(response.body);
}

std::string ServableModel::describe() const { return describe_model(config(), engine(), libraries()); }

const ModelConfig& ServableModel::config() const { return state_->config; }
const ModelName& ServableModel::name() const { return state_->name; }
const Counts& ServableModel::counts() const { return state_->counts; }
const Engine& ServableModel::engine() const { return *state_->engine; }
const std::vector<std::pair<std::string, std::string>>& ServableModel::libraries() const {
    return state_->libraries;
}
const std::string& ServableModel::broken() const { return state_->broken; }

}  // namespace opserve::native
