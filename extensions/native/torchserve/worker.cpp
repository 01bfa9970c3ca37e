// The worker that TorchServe starts for archives of `--runtime LSP`: it loads one model, and answers batches
// of requests until the frontend is gone. With `--selfcheck FOLDER` it answers the sample of an unpacked
// archive instead.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "../common/errors.h"
#include "../common/log.h"
#include "../selfcheck.h"
#include "answers.h"
#include "arguments.h"
#include "connection.h"
#include "crash.h"
#include "listener.h"
#include "messages.h"
#include "metrics_config.h"
#include "served_model.h"
#include "stand_in.h"
#include "worker_log.h"

namespace opserve::native {
namespace {

constexpr int kFailed = 1;
constexpr int32_t kOk = 200, kServerError = 500, kOutOfMemory = 507;
constexpr const char* kDied = "Backend worker process died.";
// A server that sees its worker go reads no further in its log: it gets this time to read why.
constexpr std::chrono::milliseconds kLastWords{200};

// The worker ends, and has said why.
struct Leave {
    int status;
};

// Writes an error in the form in which scripts/torchserve/worker_log.py finds it.
void log_error(const std::string& error) {
    write_log("Traceback (native worker):");
    write_log(error);
}

std::string after_last_point(const std::string& text) { return text.substr(text.rfind('.') + 1); }

class Worker {
  public:
    Worker(Connection& connection, const Arguments& arguments, DeclaredMetrics declared)
        : connection_(connection), arguments_(arguments), declared_(std::move(declared)) {}

    // Throws Leave, Disconnected, ProtocolError, std::system_error.
    [[noreturn]] void run() {
        while (true) {
            switch (const uint8_t command = connection_.read_byte()) {
                case kLoad:
                    load();
                    break;
                case kPredict:
                    predict();
                    break;
                default:
                    throw ProtocolError("an unknown command, " + std::to_string(command));
            }
        }
    }

  private:
    void load() {
        if (model_ || stand_in_) throw ProtocolError("a second model to load");
        const LoadMessage message = LoadMessage::read(connection_);
        write_log("model_name: " + message.model_name + ", batchSize: " + std::to_string(message.batch_size));
        // TorchServe starts a worker on the same socket again; without one it is not known which worker this
        // is.
        if (arguments_.socket) {
            const std::string socket = std::filesystem::path(*arguments_.socket).filename().native();
            attempts_.emplace(std::filesystem::path(message.model_path), after_last_point(socket));
        }
        if (attempts_ && attempts_->needs_stand_in())
            stand_in();
        else
            load_model(message);
        reply(kOk, "loaded model " + message.model_name);
    }

    void stand_in() {
        stand_in_.emplace(*attempts_);
        connection_.on_idle(stand_in_->next_look(), [this] {
            leave_when_over();
            return stand_in_->next_look();
        });
    }

    void load_model(const LoadMessage& message) {
        if (attempts_) attempts_->begin();
        try {
            model_ = std::make_unique<ServedModel>(message, declared_);
        } catch (const ModelError& error) {
            fail(message, kServerError, std::string("ModelError: ") + error.what());
        } catch (const OutOfMemoryError& error) {
            fail(message, kOutOfMemory, std::string("OutOfMemoryError: ") + error.what());
        } catch (const std::bad_alloc&) {
            fail(message, kOutOfMemory, "MemoryError: not enough memory");
        } catch (const std::exception& error) {
            fail(message, kServerError, std::string("RuntimeError: ") + error.what());
        }
        if (attempts_) attempts_->succeed();
        connection_.on_idle(kReportInterval, [this] { return model_->report_rest(); });
    }

    [[noreturn]] void fail(const LoadMessage& message, int32_t status, const std::string& error) {
        if (attempts_) attempts_->fail(error);
        write_log("Failed to load model " + message.model_name);
        log_error(error);
        write_log(kDied);
        std::this_thread::sleep_for(kLastWords);
        reply(status, status == kOutOfMemory ? "System out of memory" : "Unknown exception");
        throw Leave{kFailed};
    }

    void reply(int32_t status, const std::string& text) {
        message_.begin(status, text);
        message_.send(connection_);
    }

    void predict() {
        batch_.read(connection_);
        if (model_) {
            model_->answer(batch_, message_);
            if (!model_->broken().empty()) write_log("this worker ends: " + model_->broken());
            message_.send(connection_);
            batch_.release();
            model_->finish(batch_);
            if (!model_->broken().empty()) {
                model_->flush();
                // The server learns of it at once: until then it would send requests. It replaces a worker
                // that ends.
                connection_.shut_down();
                throw Leave{kFailed};
            }
        } else if (stand_in_) {
            stand_in_->answer(batch_, message_);
            message_.send(connection_);
            leave_when_over();
        } else {
            throw ProtocolError("requests before a model to load");
        }
    }

    void leave_when_over() const {
        if (!stand_in_->is_over()) return;
        write_log("the stand-in ends, so that the model is loaded again");
        throw Leave{kFailed};
    }

    Connection& connection_;
    const Arguments& arguments_;
    DeclaredMetrics declared_;
    std::optional<Attempts> attempts_;
    std::optional<StandIn> stand_in_;
    std::unique_ptr<ServedModel> model_;
    Batch batch_;
    AnswerMessage message_;
};

DeclaredMetrics declared_metrics(const std::string& path) {
    if (path.empty()) return {};
    try {
        DeclaredMetrics declared = read_declared_metrics(path);
        write_log("Successfully loaded " + path + ".");
        return declared;
    } catch (const std::runtime_error& error) {
        write_log(error.what());
        return {};
    }
}

// Returns the status that the process ends with.
int serve(const Arguments& arguments, const Listener& listener) {
    DeclaredMetrics declared = declared_metrics(arguments.metrics_config);
    write_to_server("[PID]" + std::to_string(getpid()));
    write_to_server("Torch worker started.");
    write_log("Native runtime: opserve");
    Descriptor connected = listener.accept();
    if (!connected) {
        write_log("Backend worker did not receive connection in: " + std::to_string(kAcceptSeconds));
        return kFailed;
    }
    write_log("Connection accepted: " + listener.address() + ".");
    Connection connection(connected.release());
    // Never destroyed: when the process ends, so do the threads and devices of a runtime, and better than by
    // their own destructors.
    auto* worker = new Worker(connection, arguments, std::move(declared));
    try {
        worker->run();
    } catch (const Leave& leave) {
        return leave.status;
    } catch (const Disconnected&) {
        write_log("Frontend disconnected.");
        return EXIT_SUCCESS;
    }
}

int run(int count, char** values) {
    log_with(write_log);
    try {
        const Arguments arguments = Arguments::parse(count, values);
        const std::string address = arguments.socket.value_or("127.0.0.1." + std::to_string(arguments.port));
        // The line by which a log is divided into the runs of a worker.
        write_log("s_name_part0=" + address.substr(0, address.rfind('.')) +
                  ", s_name_part1=" + after_last_point(address) + ", pid=" + std::to_string(getpid()));
        const Listener listener(arguments);
        write_log("Listening on port: " + listener.address());
        int status = kFailed;
        try {
            status = serve(arguments, listener);
        } catch (...) {
            listener.remove();
            throw;
        }
        listener.remove();
        return status;
    } catch (const std::exception& error) {
        write_log(kDied);
        log_error(std::string("RuntimeError: ") + error.what());
        return kFailed;
    }
}

}  // namespace
}  // namespace opserve::native

int main(int count, char** values) {
    // What libraries print comes in lines too.
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    // A server that is gone is seen where it is written to.
    signal(SIGPIPE, SIG_IGN);
    opserve::native::report_crashes();
    const bool checks = count > 2 && std::string_view(values[1]) == "--selfcheck";
    const int status =
        checks ? opserve::native::print_sample_answer(values[2]) : opserve::native::run(count, values);
    std::fflush(nullptr);
    // Without destructors: see Worker.
    std::_Exit(status);
}
