// Requests of every format, sound and damaged, to the codecs of the native worker, built with
// AddressSanitizer and UndefinedBehaviorSanitizer. Bodies are on the heap, exactly as long as their contract
// says. In addition:
// - a sound request is accepted, with the numbers that were put into it;
// - what is accepted fits the signature, is aligned, and may be read and written to its end;
// - what is refused has a status of 4xx and a bounded message;
// - neither depends on where the body lies and what follows it;
// - no more memory is asked for than the bounds of the request allow;
// - the answer keeps to its own bound, and JSON that is sent back as a request means the same.
//
// A case depends on the seed and its number only: --first N --cases 1 repeats one.
#include <cmath>
#include <cstring>
#include <memory>

#include "codecs/decode.h"
#include "codecs/encode.h"
#include "codecs/request.h"
#include "fuzz_native.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fuzz {
namespace {

using opserve::native::Array;
using opserve::native::Arrays;
using opserve::native::Buffer;
using opserve::native::DecodedRequest;
using opserve::native::ModelName;
using opserve::native::Part;
using opserve::native::Request;
using opserve::native::RequestError;
using opserve::native::Response;
using opserve::native::ResponseFormat;
using opserve::native::ResponseType;

const ModelName kModel{"model", "1.0"};

// Bytes that begin anywhere and end where the heap does; those after the contents, which may be read, are all
// `after`.
Buffer place(const std::string& content, size_t offset, char after) {
    const size_t size = offset + content.size() + Part::kPadding;
    auto heap = std::make_shared<Heap>(static_cast<int64_t>(size), 64);
    heap->fill(after);
    auto* bytes = static_cast<std::byte*>(heap->get()) + offset;
    std::memcpy(bytes, content.data(), content.size());
    return {{bytes, content.size()}, heap};
}

Request make_request(const Message& message, size_t offset, char after) {
    Request request;
    for (const Message::Part& part : message.parts) {
        request.parts.push_back({part.name, part.type, place(part.content, offset, after)});
    }
    request.headers = message.headers;
    return request;
}

uint64_t hash(const Array& array) {
    uint64_t found = 0xcbf29ce484222325ULL;
    for (const std::byte each : array.span())
        found = (found ^ static_cast<uint64_t>(each)) * 0x100000001b3ULL;
    return found;
}

double element(const Array& array, int64_t at) {
    switch (array.dtype) {
        case DType::kBool:
        case DType::kUInt8:
            return array.as<uint8_t>()[at];
        case DType::kInt8:
            return array.as<int8_t>()[at];
        case DType::kUInt16:
            return array.as<uint16_t>()[at];
        case DType::kInt16:
            return array.as<int16_t>()[at];
        case DType::kUInt32:
            return array.as<uint32_t>()[at];
        case DType::kInt32:
            return array.as<int32_t>()[at];
        case DType::kUInt64:
            return static_cast<double>(array.as<uint64_t>()[at]);
        case DType::kInt64:
            return static_cast<double>(array.as<int64_t>()[at]);
        case DType::kFloat16:
            return 0;
        case DType::kFloat32:
            return array.as<float>()[at];
        case DType::kFloat64:
            return array.as<double>()[at];
    }
    return 0;
}

// The outcome of a request: what was decoded, or the error.
struct Outcome {
    std::optional<DecodedRequest> decoded;
    std::optional<RequestError> error;
    // What two outcomes of the same request have in common.
    std::string text;
};

void check_array(const Array& array, const TensorSpec& spec) {
    if (array.dtype != spec.dtype || !spec.matches(array.shape))
        fail("an array that does not fit " + spec.name);
    if (array.fortran_order || array.swapped) fail("an array in another order");
    const auto address = reinterpret_cast<uintptr_t>(array.data);
    if (array.bytes() > 0 && address % opserve::native::item_size(array.dtype) != 0)
        fail("an array that is not aligned");
    for (std::byte& each : array.span()) each = each;  // writable
    if (spec.minimum) {
        for (int64_t i = 0; i < array.size(); ++i) {
            const double number = element(array, i);
            if (!(number >= *spec.minimum && number < HUGE_VAL))
                fail("a number below the minimum of " + spec.name);
        }
    }
    for (int64_t i = 0; spec.dtype == DType::kBool && i < array.size(); ++i) {
        if (array.as<uint8_t>()[i] > 1) fail("a bool that is neither 0 nor 1");
    }
}

void check_error(const RequestError& error) {
    if (error.status() < 400 || error.status() > 499)
        fail("status " + std::to_string(error.status()) + ": " + error.message());
    // Code points of up to four bytes each.
    if (error.message().empty() || error.message().size() > 4 * opserve::native::kMaxMessage)
        fail("an error without a bounded message");
    for (const char each : error.message()) {
        if (static_cast<unsigned char>(each) < 0x20) fail("an error that is not printable");
    }
    if (error.field() && error.field()->size() > 4 * opserve::native::kMaxField) fail("an unbounded field");
}

Outcome decode(const Message& message, const Model& model, size_t offset, char after) {
    const Request request = make_request(message, offset, after);
    Outcome outcome;
    try {
        outcome.decoded = opserve::native::decode_request(request, model.specs, model.limits, model.memory);
    } catch (const RequestError& error) {
        outcome.error = error;
        outcome.text =
            std::to_string(error.status()) + " " + error.field().value_or("-") + " " + error.message();
        check_error(error);
        return outcome;
    } catch (const std::exception& error) {
        fail(std::string("an exception that no request may cause: ") + error.what());
        outcome.error = RequestError(error.what());
        return outcome;
    }
    const Arrays& inputs = outcome.decoded->inputs;
    size_t next = 0;
    for (const TensorSpec& spec : model.specs) {
        if (next < inputs.size() && inputs[next].name == spec.name) {
            const Array& array = inputs[next++].array;
            check_array(array, spec);
            outcome.text += spec.name + " ";
            for (const int64_t size : array.shape) outcome.text += std::to_string(size) + ",";
            outcome.text += " " + std::to_string(hash(array)) + " ";
        } else if (!spec.optional) {
            fail("accepted without " + spec.name);
        }
    }
    if (next != inputs.size()) fail("inputs in another order, or too many");
    outcome.text += std::to_string(static_cast<int>(outcome.decoded->format.type));
    return outcome;
}

void check_expected(const Message& message, const Arrays& inputs) {
    for (const auto& [name, numbers] : message.expected) {
        const Array* array = opserve::native::find(inputs, name);
        if (array == nullptr || array->size() != static_cast<int64_t>(numbers.size())) {
            fail("accepted without all of " + name);
            continue;
        }
        for (size_t i = 0; i < numbers.size(); ++i) {
            if (element(*array, static_cast<int64_t>(i)) != numbers[i]) {
                fail(name + " is " + std::to_string(element(*array, static_cast<int64_t>(i))) + ", not " +
                     std::to_string(numbers[i]));
                break;
            }
        }
    }
}

// The inputs are sent back as if they were outputs.
void check_answer(const Outcome& outcome, const Model& model, const Message& message) {
    const DecodedRequest& decoded = *outcome.decoded;
    ResponseFormat format = decoded.format;
    format.grpc_infer = current_case.number % 7 == 0;
    Response response;
    try {
        response =
            opserve::native::encode_outputs(decoded.inputs, format, kModel, model.limits.max_response_bytes);
    } catch (const RequestError& error) {
        check_error(error);
        opserve::native::encode_error(error, format, kModel);
        return;
    }
    if (static_cast<int64_t>(response.body.size()) > model.limits.max_response_bytes)
        fail("an answer over its bound");
    if (format.type != ResponseType::kJson || format.infer_request || format.grpc_infer) return;
    for (const auto& [name, array] : decoded.inputs) {
        for (int64_t i = 0; i < array.size(); ++i) {
            if (!std::isfinite(element(array, i))) return;  // null
        }
        // Of what follows a size of 0 lists show nothing.
        for (size_t i = 0; i + 1 < array.shape.size(); ++i) {
            if (array.shape[i] == 0) return;
        }
    }
    if (static_cast<int64_t>(response.body.size()) > model.limits.max_json_bytes) return;
    for (const TensorSpec& spec : model.specs) {
        if (spec.name == "body" || spec.name == "inputs") return;
    }
    Message again;
    again.parts.push_back({"body", "application/json", response.body});
    for (const auto& [header, value] : message.headers) {
        if (header == "accept") again.headers.emplace_back(header, value);
    }
    const Outcome other = decode(again, model, 0, 'x');
    if (other.text != outcome.text) fail("its own answer means " + other.text + ", not " + outcome.text);
}

std::string accept(Random& random) {
    std::string text;
    for (int64_t count = 1 + random.below(3); count > 0; --count) {
        text += random.pick({"application/json", "application/x-npz", "application/vnd.oip+json", "*/*",
                             "application/*", "text/html"});
        text += random.pick({",", ";q=0.5,", ";q=0,", "; q=1.0 , ", ";a=b;q=0.25,", ""});
    }
    return text;
}

// Whether the request was accepted.
bool run_case(Random& random, const Kind& kind) {
    const auto& all = models();
    const Model* model = nullptr;
    std::optional<Message> message;
    for (int attempt = 0; attempt < 40 && !message; ++attempt) {
        model = &all[static_cast<size_t>(random.below(static_cast<int64_t>(all.size())))];
        message = kind.make(random, *model);
    }
    if (!message) return false;
    if (message->parts.size() == 1 && message->parts[0].name == "body" && model->specs[0].name == "body")
        message->sound = false;
    if (random.one_in(3)) message->headers.emplace_back("accept", accept(random));
    if (!random.one_in(3)) damage(random, *message);
    if (random.one_in(200)) message->parts.clear(), message->sound = false;

    const size_t offset = static_cast<size_t>(random.below(17));
    const Outcome outcome = decode(*message, *model, offset, '\0');
    const Outcome other = decode(*message, *model, static_cast<size_t>(random.below(64)),
                                 random.pick({'9', ']', '"', '\xff', ' '}));
    if (other.text != outcome.text)
        fail("depends on what is around it: " + outcome.text + " and " + other.text);
    if (outcome.error) {
        const int status = outcome.error->status();
        if (message->sound && status != 413 && status != 406) fail("refused: " + outcome.text);
        opserve::native::encode_error(*outcome.error, {}, kModel);
        return false;
    }
    if (message->sound) check_expected(*message, outcome.decoded->inputs);
    check_answer(outcome, *model, *message);
    return true;
}

int run_cases(int64_t first, int64_t cases) {
    const SharedRegions regions;
    std::map<std::string, std::pair<int64_t, int64_t>> counts;
    for (int64_t i = first; i < first + cases; ++i) {
        const Kind& kind = kinds[static_cast<size_t>(i) % kinds.size()];
        current_case.number = i;
        current_case.op = kind.name;
        Random random(current_case.seed, static_cast<uint64_t>(i));
        auto& [accepted, refused] = counts[kind.name];
        ++(run_case(random, kind) ? accepted : refused);
    }
    for (const auto& [name, count] : counts) {
        std::printf("%-15s %lld accepted, %lld refused\n", name.c_str(), static_cast<long long>(count.first),
                    static_cast<long long>(count.second));
    }
    std::printf("%lld cases: %s\n", static_cast<long long>(cases), failures == 0 ? "no report" : "FAILED");
    return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fuzz

// UndefinedBehaviorSanitizer calls this for a report; the death callback is AddressSanitizer's.
extern "C" __attribute__((visibility("default"))) void __ubsan_on_report() { fuzz::print_case(); }
// The bounds of a request are a megabyte; what it declares may be exabytes.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
    return "max_allocation_size_mb=64:allocator_may_return_null=0";
}

int main(int argc, char** argv) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback([] {
        fuzz::print_case();
        fuzz::SharedRegions::remove();
    });
#endif
    int64_t first = 0, cases = 100000;
    for (int i = 1; i < argc; i += 2) {
        const std::string option = argv[i];
        if (i + 1 == argc || (option != "--seed" && option != "--first" && option != "--cases")) {
            std::fprintf(stderr, "usage: fuzz_native [--cases N] [--seed S] [--first I]\n");
            return 2;
        }
        const long long value = std::strtoll(argv[i + 1], nullptr, 10);
        if (option == "--first") {
            first = value;
        } else if (option == "--cases") {
            cases = value;
        } else {
            fuzz::current_case.seed = static_cast<uint64_t>(value);
        }
    }
    return fuzz::run_cases(first, cases);
}
