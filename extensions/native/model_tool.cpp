// opserve_model: a model behind a pipe, for tests that compare its answers with those of handlers/model.py.
//
//     opserve_model FOLDER
//
// It loads the unpacked archive, writes a frame with its description, a text, and then one for each that it
// reads, until stdin ends. Numbers are little-endian. A frame is a u64 length and as many bytes, which hold
// these one after the other:
//
//     text     u32 length, bytes
//     bytes    u64 length, bytes
//     list     u32 length, items
//     flag     u32 0 or 1
//
// A batch:     list of requests: list of parts (text name, text content type, bytes), list of headers (text
// name in lower
//              case, text value), flags explain, open_inference, grpc_infer
// Its answer:  list of responses: u32 status, text content type, list of headers (text name, text value),
// bytes body; then
//              u64 requests, batches and model calls so far, list of rejected (u32 status, text field, u64
//              count), and a text, why the model can run no longer
//
// The exit status is 0, or 1 with one line on stderr that begins with "error: ".
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model.h"

namespace {

using namespace opserve::native;

// One frame that is read.
class Reader {
  public:
    // Returns whether there is another frame.
    bool next() {
        uint64_t length = 0;
        if (std::fread(&length, 1, sizeof length, stdin) != sizeof length) return false;
        frame_.resize(length);
        at_ = 0;
        if (std::fread(frame_.data(), 1, length, stdin) != length)
            throw std::runtime_error("stdin ends within a frame");
        return true;
    }

    uint32_t number() {
        uint32_t value = 0;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    std::string text() {
        const uint32_t length = number();
        return std::string(take(length), length);
    }
    Buffer bytes() {
        uint64_t length = 0;
        std::memcpy(&length, take(sizeof length), sizeof length);
        const char* from = take(length);
        // Of exactly this size and what may be read after it, so that a sanitizer sees everything beyond.
        const std::shared_ptr<std::byte[]> memory(new std::byte[length + Part::kPadding]());
        if (length > 0) std::memcpy(memory.get(), from, length);
        return {{memory.get(), length}, memory};
    }
    template <typename Read>
    void list(Read read) {
        for (uint32_t left = number(); left > 0; --left) read();
    }

  private:
    const char* take(uint64_t length) {
        if (length > frame_.size() - at_) throw std::runtime_error("a frame is shorter than what it holds");
        at_ += length;
        return frame_.data() + at_ - length;
    }

    std::vector<char> frame_;
    size_t at_ = 0;
};

// One frame that is written.
class Writer {
  public:
    void number(uint32_t value) { put(&value, sizeof value); }
    void long_number(uint64_t value) { put(&value, sizeof value); }
    void text(std::string_view text) {
        number(static_cast<uint32_t>(text.size()));
        put(text.data(), text.size());
    }
    void bytes(std::string_view bytes) {
        long_number(bytes.size());
        put(bytes.data(), bytes.size());
    }
    void send() {
        const uint64_t length = frame_.size();
        std::fwrite(&length, sizeof length, 1, stdout);
        std::fwrite(frame_.data(), 1, frame_.size(), stdout);
        if (std::fflush(stdout) != 0) throw std::runtime_error("stdout is closed");
        frame_.clear();
    }

  private:
    void put(const void* data, size_t size) { frame_.append(static_cast<const char*>(data), size); }

    std::string frame_;
};

Request read_request(Reader& reader) {
    Request request;
    reader.list([&] {
        Part part;
        part.name = reader.text();
        part.content_type = reader.text();
        part.content = reader.bytes();
        request.parts.push_back(std::move(part));
    });
    reader.list([&] {
        std::string name = reader.text();
        request.headers.emplace_back(std::move(name), reader.text());
    });
    request.explain = reader.number() != 0;
    request.open_inference = reader.number() != 0;
    request.grpc_infer = reader.number() != 0;
    return request;
}

void write_response(Writer& writer, const Response& response) {
    writer.number(static_cast<uint32_t>(response.status));
    writer.text(response.content_type);
    writer.number(static_cast<uint32_t>(response.headers.size()));
    for (const auto& [name, value] : response.headers) {
        writer.text(name);
        writer.text(value);
    }
    writer.bytes(response.body);
}

void write_counts(Writer& writer, const Counts& counts) {
    writer.long_number(counts.requests);
    writer.long_number(counts.batches);
    writer.long_number(counts.model_calls);
    writer.number(static_cast<uint32_t>(counts.rejected.size()));
    for (const auto& [key, count] : counts.rejected) {
        writer.number(static_cast<uint32_t>(key.first));
        writer.text(key.second);
        writer.long_number(count);
    }
}

void serve(const char* folder) {
    ServableModel model(folder, std::nullopt, {"a model", "1.0"});
    Reader reader;
    Writer writer;
    writer.text("{" + model.describe() + "}");
    writer.send();
    while (reader.next()) {
        std::vector<Request> requests;
        reader.list([&] { requests.push_back(read_request(reader)); });
        const std::vector<Response> responses = model.answer(requests);
        writer.number(static_cast<uint32_t>(responses.size()));
        for (const Response& response : responses) write_response(writer, response);
        write_counts(writer, model.counts());
        writer.text(model.broken());
        writer.send();
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 2) throw std::runtime_error("usage: opserve_model FOLDER");
        serve(argv[1]);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
