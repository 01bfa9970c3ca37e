// opserve_answer: the worker's own loop without a server, for benchmarks: decoding, the model and encoding,
// in one thread.
//
//     opserve_answer ARCHIVE REQUEST SECONDS
//
// ARCHIVE is the folder of an unpacked archive. REQUEST is a folder with a file for each part of the request,
// named like it, in `parts/`, and the headers in `headers`, a line `name: value` for each. The answer's body
// is written to REQUEST/answer. Prints a line of JSON: {"status": …, "content_type": …, "json_length": …,
// "requests": …, "seconds": …}.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "codecs/oip.h"
#include "model.h"

namespace {

using namespace opserve::native;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// Calls before the time counts: TorchScript compiles in the second one, and memory is kept from then on.
constexpr int kWarmUpCalls = 10;

std::string read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw std::runtime_error(path.string() + " cannot be read");
    return content;
}

Part read_part(const fs::path& path) {
    const std::string content = read_file(path);
    // As aligned as the body of a message.
    auto memory = std::shared_ptr<void>(
        std::aligned_alloc(64, (content.size() + Part::kPadding + 63) / 64 * 64), std::free);
    if (memory == nullptr) throw std::bad_alloc();
    std::memcpy(memory.get(), content.data(), content.size());
    return {path.filename().string(), "", {{static_cast<std::byte*>(memory.get()), content.size()}, memory}};
}

Request read_request(const fs::path& folder) {
    Request request;
    std::vector<fs::path> paths;
    for (const auto& each : fs::directory_iterator(folder / "parts")) paths.push_back(each.path());
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) request.parts.push_back(read_part(path));
    std::ifstream headers(folder / "headers");
    for (std::string line; std::getline(headers, line);) {
        const size_t colon = line.find(": ");
        if (colon == line.npos) throw std::runtime_error("a header is no 'name: value': " + line);
        request.headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    return request;
}

void measure(const fs::path& archive, const fs::path& folder, double seconds) {
    ServableModel model(archive, std::nullopt, {"model", "1.0"});
    Request request = read_request(folder);
    Response first = std::move(model.answer({&request, 1}).at(0));
    std::ofstream(folder / "answer", std::ios::binary) << first.body;
    std::string json_length = "null";
    for (const auto& [name, value] : first.headers) {
        if (name == kJsonLengthHeader) json_length = value;
    }
    for (int i = 0; i < kWarmUpCalls; ++i) model.answer({&request, 1});
    int64_t requests = 0;
    const auto begin = Clock::now();
    std::chrono::duration<double> elapsed{0};
    for (; elapsed.count() < seconds; ++requests) {
        model.answer({&request, 1});
        elapsed = Clock::now() - begin;
    }
    std::printf(
        R"({"status": %d, "content_type": "%s", "json_length": %s, "requests": %lld, "seconds": %.6f})"
        "\n",
        first.status, first.content_type.c_str(), json_length.c_str(), static_cast<long long>(requests),
        elapsed.count());
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 4) throw std::invalid_argument("usage: opserve_answer ARCHIVE REQUEST SECONDS");
        measure(argv[1], argv[2], std::stod(argv[3]));
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
