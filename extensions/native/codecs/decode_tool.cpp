// opserve_decode: the worker's decoder and encoder behind a pipe, for tests that compare them with
// handlers/codecs.
//
//     opserve_decode decode MODEL-CONFIG.json
//     opserve_decode encode
//
// It reads frames from stdin and writes one to stdout for each, until stdin ends. Numbers are little-endian.
// A frame is a u64 length and as many bytes, which hold these one after the other:
//
//     text     u32 length, bytes
//     bytes    u64 length, bytes
//     list     u32 length, items
//     maybe T  u32 1 and a T, or u32 0
//     flag     u32 0 or 1
//     array    text name, text dtype ("float32"), list of u64 sizes, bytes (in C order)
//     format   u32 type (0 JSON, 1 .npz, 2 Open Inference Protocol), flag text_errors, flag grpc_infer, maybe
//     asked asked    maybe text id, flag binary, maybe list of (text name, flag binary) outputs,
//              list of (text name, text key, u64 offset, u64 size) regions
//     error    u32 status, maybe text field, text message, flag open_inference
//
// decode, a request:  list of (text name, text content type, bytes) parts, list of (text name in lower case,
// text value)
//                     headers
//         its answer: u32 0, format, list of array inputs; or u32 1, error, whose status is 0 if it is no
//         RequestError
// encode, a request:  format, text model name, text model version, u64 max_bytes, and u32 0, list of array
// outputs; or
//                     u32 1, error
//         its answer: u32 status, text content type, list of (text name, text value) headers, bytes body
//
// Outputs that are refused are answered with the response to that error, as a model does. The exit status is
// 0, or 1 with one line on stderr.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../config.h"
#include "decode.h"
#include "encode.h"

namespace {

using namespace opserve::native;

// Memory of exactly this size and what may be read after it, so that a sanitizer sees everything beyond.
Buffer make_buffer(size_t size) {
    std::shared_ptr<std::byte[]> memory(new std::byte[size + Part::kPadding]());
    std::byte* const data = memory.get();
    return {{data, size}, std::shared_ptr<void>(std::move(memory), data)};
}

bool read_exactly(void* to, size_t size) {
    const size_t count = std::fread(to, 1, size, stdin);
    if (count == 0 && size > 0 && std::feof(stdin) != 0) return false;
    if (count < size) throw std::runtime_error("stdin ends within a frame");
    return true;
}

// Reads one frame.
class Reader {
  public:
    // Returns whether there is another frame.
    bool next() {
        uint64_t length = 0;
        if (!read_exactly(&length, sizeof length)) return false;
        frame_.resize(length);
        at_ = 0;
        if (!read_exactly(frame_.data(), length)) throw std::runtime_error("stdin ends within a frame");
        return true;
    }

    template <typename T>
    T number() {
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    bool flag() { return number<uint32_t>() != 0; }
    std::string text() {
        const auto length = number<uint32_t>();
        return std::string(take(length), length);
    }
    Buffer bytes() {
        const auto length = number<uint64_t>();
        const char* from = take(length);
        Buffer buffer = make_buffer(length);
        if (length > 0) std::memcpy(buffer.bytes.data(), from, length);
        return buffer;
    }
    template <typename Read>
    void list(Read read) {
        for (auto left = number<uint32_t>(); left > 0; --left) read();
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

// Writes one frame.
class Writer {
  public:
    template <typename T>
    void number(T value) {
        put(&value, sizeof value);
    }
    void flag(bool value) { number<uint32_t>(value ? 1 : 0); }
    void text(std::string_view text) {
        number(static_cast<uint32_t>(text.size()));
        put(text.data(), text.size());
    }
    void bytes(const void* data, size_t size) {
        number(static_cast<uint64_t>(size));
        put(data, size);
    }
    void size(size_t length) { number(static_cast<uint32_t>(length)); }

    void send() {
        const uint64_t length = frame_.size();
        std::fwrite(&length, sizeof length, 1, stdout);
        std::fwrite(frame_.data(), 1, frame_.size(), stdout);
        if (std::fflush(stdout) != 0) throw std::runtime_error("stdout is closed");
        frame_.clear();
    }

  private:
    void put(const void* data, size_t size) {
        const char* bytes = static_cast<const char*>(data);
        frame_.insert(frame_.end(), bytes, bytes + size);
    }

    std::vector<char> frame_;
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
    return request;
}


Array read_array(Reader& reader) {
    Array array;
    const auto dtype = parse_dtype(reader.text());
    if (!dtype) throw std::runtime_error("a frame has an unknown dtype");
    array.dtype = *dtype;
    reader.list([&] { array.shape.push_back(static_cast<int64_t>(reader.number<uint64_t>())); });
    Buffer content = reader.bytes();
    if (content.size() != array.bytes()) throw std::runtime_error("an array has other bytes than its shape");
    array.data = content.bytes.data();
    array.owner = std::move(content.owner);
    return array;
}

ResponseFormat read_format(Reader& reader) {
    ResponseFormat format;
    format.type = static_cast<ResponseType>(reader.number<uint32_t>());
    format.text_errors = reader.flag();
    format.grpc_infer = reader.flag();
    if (!reader.flag()) return format;
    auto asked = std::make_shared<InferRequest>();
    if (reader.flag()) asked->id = reader.text();
    asked->binary = reader.flag();
    if (reader.flag()) {
        asked->outputs.emplace();
        reader.list([&] {
            std::string name = reader.text();
            asked->outputs->emplace_back(std::move(name), reader.flag());
        });
    }
    reader.list([&] {
        std::string name = reader.text();
        Region region;
        region.key = reader.text();
        region.offset = static_cast<int64_t>(reader.number<uint64_t>());
        region.size = static_cast<int64_t>(reader.number<uint64_t>());
        asked->regions.emplace_back(std::move(name), std::move(region));
    });
    format.infer_request = std::move(asked);
    return format;
}

void write_format(Writer& writer, const ResponseFormat& format) {
    writer.number(static_cast<uint32_t>(format.type));
    writer.flag(format.text_errors);
    writer.flag(format.grpc_infer);
    const InferRequest* asked = format.infer_request.get();
    writer.flag(asked != nullptr);
    if (asked == nullptr) return;
    writer.flag(asked->id.has_value());
    if (asked->id) writer.text(*asked->id);
    writer.flag(asked->binary);
    writer.flag(asked->outputs.has_value());
    if (asked->outputs) {
        writer.size(asked->outputs->size());
        for (const auto& [name, binary] : *asked->outputs) {
            writer.text(name);
            writer.flag(binary);
        }
    }
    writer.size(asked->regions.size());
    for (const auto& [name, region] : asked->regions) {
        writer.text(name);
        writer.text(region.key);
        writer.number(static_cast<uint64_t>(region.offset));
        writer.number(static_cast<uint64_t>(region.size));
    }
}

void write_error(Writer& writer, int status, const std::optional<std::string>& field,
                 std::string_view message, bool open_inference) {
    writer.number<uint32_t>(1);
    writer.number(static_cast<uint32_t>(status));
    writer.flag(field.has_value());
    if (field) writer.text(*field);
    writer.text(message);
    writer.flag(open_inference);
}

void decode(Reader& reader, Writer& writer, const ModelConfig& config) {
    const Request request = read_request(reader);
    try {
        const DecodedRequest decoded = decode_request(request, config.inputs, config.limits, config.memory);
        writer.number<uint32_t>(0);
        write_format(writer, decoded.format);
        writer.size(decoded.inputs.size());
        for (const auto& [name, array] : decoded.inputs) {
            writer.text(name);
            writer.text(opserve::native::name(array.dtype));
            writer.size(array.shape.size());
            for (const int64_t size : array.shape) writer.number(static_cast<uint64_t>(size));
            writer.bytes(array.data, array.bytes());
        }
    } catch (const RequestError& error) {
        write_error(writer, error.status(), error.field(), error.message(), error.open_inference);
    } catch (const std::exception& error) {
        write_error(writer, 0, std::nullopt, error.what(), false);
    }
}

Response encode(Reader& reader) {
    const ResponseFormat format = read_format(reader);
    ModelName model;
    model.name = reader.text();
    model.version = reader.text();
    const auto max_bytes = static_cast<int64_t>(reader.number<uint64_t>());
    if (reader.flag()) {
        const auto status = static_cast<int>(reader.number<uint32_t>());
        std::optional<std::string> field;
        if (reader.flag()) field = reader.text();
        const std::string message = reader.text();
        RequestError error(message, field, status);
        error.open_inference = reader.flag();
        return encode_error(error, format, model);
    }
    std::vector<std::unique_ptr<std::string>> names;  // where the arrays find them
    Arrays outputs;
    reader.list([&] {
        names.push_back(std::make_unique<std::string>(reader.text()));
        outputs.push_back({*names.back(), read_array(reader)});
    });
    try {
        return encode_outputs(outputs, format, model, max_bytes);
    } catch (const RequestError& error) {
        return encode_error(error, format, model);
    }
}

void encode(Reader& reader, Writer& writer) {
    const Response response = encode(reader);
    writer.number(static_cast<uint32_t>(response.status));
    writer.text(response.content_type);
    writer.size(response.headers.size());
    for (const auto& [name, value] : response.headers) {
        writer.text(name);
        writer.text(value);
    }
    writer.bytes(response.body.data(), response.body.size());
}

void run(const std::vector<std::string>& arguments) {
    Reader reader;
    Writer writer;
    if (arguments.size() == 2 && arguments[0] == "decode") {
        const ModelConfig config = ModelConfig::read(arguments[1]);
        while (reader.next()) {
            decode(reader, writer, config);
            writer.send();
        }
    } else if (arguments.size() == 1 && arguments[0] == "encode") {
        while (reader.next()) {
            encode(reader, writer);
            writer.send();
        }
    } else {
        throw std::runtime_error("usage: opserve_decode decode MODEL-CONFIG.json, or opserve_decode encode");
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "opserve_decode: %s\n", error.what());
        return 1;
    }
}
