// How the requests are made: like those of clients, then with something changed.
#include <fcntl.h>
#include <isa-l.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
// After <cstdio>, which it needs.
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "fuzz_native.h"

namespace fuzz {
namespace {

using opserve::native::item_size;
using opserve::native::name;

// ---- models ----

TensorSpec tensor(const char* name, DType dtype, Shape shape, bool optional = false,
                  std::optional<double> minimum = {}) {
    TensorSpec spec;
    spec.name = name;
    spec.dtype = dtype;
    spec.shape = std::move(shape);
    spec.optional = optional;
    spec.minimum = minimum;
    return spec;
}

constexpr std::array kDTypes{DType::kBool,  DType::kUInt8, DType::kInt8,    DType::kInt16,
                             DType::kInt32, DType::kInt64, DType::kFloat32, DType::kFloat64};

std::vector<Model> make_models() {
    const Limits usual{.max_image_pixels = 10000,
                       .max_bytes = 1 << 20,
                       .max_json_bytes = 1 << 17,
                       .max_response_bytes = 1 << 17};
    const Limits tight{
        .max_image_pixels = 500, .max_bytes = 700, .max_json_bytes = 1200, .max_response_bytes = 300};
    const SharedMemory memory{SharedRegions::prefix(), usual.max_bytes};
    Signature every;
    static std::array<std::string, kDTypes.size()> names;
    for (size_t i = 0; i < kDTypes.size(); ++i) {
        names[i] = "a_" + std::string(name(kDTypes[i]));
        every.push_back(tensor(names[i].c_str(), kDTypes[i], i % 3 == 1 ? Shape{-1, -1} : Shape{-1}, true));
    }
    std::vector<Model> made;
    const std::vector<Signature> signatures{
        {tensor("x", DType::kFloat32, {-1}), tensor("y", DType::kFloat32, {-1})},
        {tensor("rowptr", DType::kInt64, {-1}), tensor("col", DType::kInt64, {-1}),
         tensor("value", DType::kFloat32, {-1}, true, 0.0), tensor("x", DType::kFloat32, {-1, 3})},
        {tensor("image", DType::kFloat32, {-1, -1}), tensor("corners", DType::kFloat32, {4, 2})},
        every,
        {tensor("n", DType::kInt64, {-1})},
        {tensor("n", DType::kUInt8, {-1, -1})},
        {tensor("n", DType::kFloat64, {1, -1, 2, -1}, false, -1.5)},
        {tensor("n", DType::kBool, {-1})},
        {tensor("n", DType::kInt32, {})},
        {tensor("image", DType::kUInt8, {-1, -1})},
        {tensor("image", DType::kInt16, {1, -1, -1})},
        {tensor("image", DType::kFloat32, {3, -1, -1})},
        {tensor("image", DType::kUInt8, {-1, -1, 3})},
        {tensor("body", DType::kFloat32, {-1}), tensor("inputs", DType::kInt64, {-1}, true)},
        {tensor("inputs", DType::kFloat64, {-1, -1})},
    };
    for (const Signature& specs : signatures) {
        made.push_back({specs, usual, memory});
        made.push_back({specs, tight, {std::nullopt, tight.max_bytes}});
    }
    return made;
}

// ---- numbers and texts ----

struct Values {
    Shape shape;
    std::vector<double> numbers;
    bool sound = true;
};

// Numbers that an input takes; or, rarely, one below its minimum.
Values values(Random& random, const TensorSpec& spec) {
    Values made{spec.shape, {}, true};
    int64_t count = 1;
    for (int64_t& size : made.shape) {
        if (size < 0)
            size = random.one_in(8) ? 0 : random.one_in(30) ? random.below(300) : 1 + random.below(5);
        count *= size;
    }
    const char kind = opserve::native::kind(spec.dtype);
    for (int64_t i = 0; i < count; ++i) {
        double number = static_cast<double>(random.below(kind == 'b' ? 2 : 100));
        if (kind == 'f' && random.one_in(2)) number += 0.25;
        if (kind != 'b' && kind != 'u' && !spec.minimum && random.one_in(3)) number = -number;
        made.numbers.push_back(number);
    }
    if (spec.minimum && count > 0 && random.one_in(20)) {
        made.numbers[static_cast<size_t>(random.below(count))] = *spec.minimum - 1;
        made.sound = false;
    }
    return made;
}

std::string number_text(Random& random, double number, DType dtype) {
    char text[64];
    if (dtype == DType::kBool) return number != 0 ? "true" : "false";
    const char* format = number != static_cast<double>(static_cast<int64_t>(number)) ? "%.2f"
                         : random.one_in(20)                                         ? "%.1f"
                         : random.one_in(20)                                         ? "%.3e"
                                                                                     : "%.0f";
    std::snprintf(text, sizeof text, format, number);
    return text;
}

std::string lists(Random& random, const Values& values, DType dtype, size_t level, size_t& at) {
    if (level == values.shape.size()) return number_text(random, values.numbers[at++], dtype);
    std::string text = "[";
    for (int64_t i = 0; i < values.shape[level]; ++i) {
        if (i > 0) text += random.one_in(50) ? " ,\n" : ",";
        text += lists(random, values, dtype, level + 1, at);
    }
    return text + "]";
}

std::string lists(Random& random, const Values& values, DType dtype) {
    size_t at = 0;
    return lists(random, values, dtype, 0, at);
}

std::string sizes_text(const Shape& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ",") + std::to_string(size);
    return text;
}

template <class T>
void append(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string bytes_of(const std::vector<double>& numbers, DType dtype) {
    std::string bytes;
    for (const double number : numbers) {
        switch (dtype) {
            case DType::kBool:
                append(bytes, static_cast<uint8_t>(number != 0));
                break;
            case DType::kUInt8:
                append(bytes, static_cast<uint8_t>(number));
                break;
            case DType::kInt8:
                append(bytes, static_cast<int8_t>(number));
                break;
            case DType::kUInt16:
                append(bytes, static_cast<uint16_t>(number));
                break;
            case DType::kInt16:
                append(bytes, static_cast<int16_t>(number));
                break;
            case DType::kUInt32:
                append(bytes, static_cast<uint32_t>(number));
                break;
            case DType::kInt32:
                append(bytes, static_cast<int32_t>(number));
                break;
            case DType::kUInt64:
                append(bytes, static_cast<uint64_t>(number));
                break;
            case DType::kInt64:
                append(bytes, static_cast<int64_t>(number));
                break;
            case DType::kFloat16:
                append(bytes, uint16_t{0});
                break;
            case DType::kFloat32:
                append(bytes, static_cast<float>(number));
                break;
            case DType::kFloat64:
                append(bytes, number);
                break;
        }
    }
    return bytes;
}

// A dtype that holds the same numbers and that an input of `dtype` takes.
DType sent_as(Random& random, DType dtype) {
    if (dtype == DType::kFloat32 && random.one_in(4)) return DType::kFloat64;
    if (dtype == DType::kInt64 && random.one_in(4)) return random.one_in(2) ? DType::kInt8 : DType::kInt32;
    return dtype;
}

// Whether nested lists show this shape: of what follows a size of 0 they show nothing.
bool shown_by_lists(const Shape& shape) {
    const auto zero = std::find(shape.begin(), shape.end(), 0);
    return zero == shape.end() || zero + 1 == shape.end();
}

bool is_absent(Random& random, const TensorSpec& spec) { return spec.optional && random.one_in(3); }

Message whole(std::string content, const char* type) {
    Message message;
    message.parts.push_back({"body", type, std::move(content)});
    return message;
}

// ---- compression ----

std::string deflated(Random& random, const std::string& content, uint16_t wrapper) {
    isal_zstream stream;
    isal_deflate_stateless_init(&stream);
    stream.gzip_flag = wrapper;
    stream.end_of_stream = 1;
    stream.flush = NO_FLUSH;
    if (random.one_in(3)) isal_deflate_set_hufftables(&stream, nullptr, IGZIP_HUFFTABLE_STATIC);
    std::string packed(content.size() + content.size() / 2 + 512, '\0');
    stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(content.data()));
    stream.avail_in = static_cast<uint32_t>(content.size());
    stream.next_out = reinterpret_cast<uint8_t*>(packed.data());
    stream.avail_out = static_cast<uint32_t>(packed.size());
    if (isal_deflate_stateless(&stream) != COMP_OK) std::abort();
    packed.resize(packed.size() - stream.avail_out);
    return packed;
}

uint32_t crc(const std::string& bytes) {
    return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

// ---- the kinds ----

std::optional<Message> json(Random& random, const Model& model) {
    Message message = whole("", "application/json");
    std::string& text = message.parts[0].content;
    if (model.specs.size() == 1 && !model.specs[0].shape.empty() && random.one_in(3)) {
        const TensorSpec& spec = model.specs[0];
        const Values made = values(random, spec);
        message.expected[spec.name] = made.numbers;
        message.sound = made.sound && shown_by_lists(made.shape);
        text = lists(random, made, spec.dtype);
    } else {
        text = "{";
        for (const TensorSpec& spec : model.specs) {
            if (is_absent(random, spec)) continue;
            const Values made = values(random, spec);
            message.expected[spec.name] = made.numbers;
            // An empty list of inputs is one of the Open Inference Protocol's.
            if (!made.sound || !shown_by_lists(made.shape) ||
                (spec.name == "inputs" && made.numbers.empty())) {
                message.sound = false;
            }
            text +=
                (text.size() > 1 ? "," : "") + ("\"" + spec.name + "\":") + lists(random, made, spec.dtype);
        }
        text += "}";
    }
    // Longer texts have another parser.
    if (random.one_in(4)) text += std::string(static_cast<size_t>(900 + random.below(300)), ' ');
    return message;
}

const char* datatype(DType dtype) {
    switch (dtype) {
        case DType::kBool:
            return "BOOL";
        case DType::kUInt8:
            return "UINT8";
        case DType::kInt8:
            return "INT8";
        case DType::kUInt16:
            return "UINT16";
        case DType::kInt16:
            return "INT16";
        case DType::kUInt32:
            return "UINT32";
        case DType::kInt32:
            return "INT32";
        case DType::kUInt64:
            return "UINT64";
        case DType::kInt64:
            return "INT64";
        case DType::kFloat16:
            return "FP16";
        case DType::kFloat32:
            return "FP32";
        case DType::kFloat64:
            return "FP64";
    }
    return "";
}

std::string wishes(Random& random, const Model& model) {
    std::string text;
    if (random.one_in(4)) text += R"(,"id":"a-7\u0041é")";
    if (random.one_in(4))
        text +=
            R"(,"parameters":{"binary_data_output":)" + std::string(random.one_in(2) ? "true}" : "false}");
    if (random.one_in(3)) {
        text += R"(,"outputs":[)";
        for (const TensorSpec& spec : model.specs) {
            if (text.back() != '[') text += ",";
            text += R"({"name":")" + spec.name + "\"";
            if (random.one_in(3)) text += R"(,"parameters":{"binary_data":true})";
            if (random.one_in(6) && model.memory.prefix) {
                text += R"(,"parameters":{"shared_memory_region":")" + *model.memory.prefix +
                        R"(out","shared_memory_byte_size":64})";
            }
            text += "}";
        }
        text += "]";
    }
    return text;
}

std::optional<Message> oip(Random& random, const Model& model) {
    const bool binary = random.one_in(2);
    Message message = whole("", binary ? "application/octet-stream" : "application/json");
    std::string text = R"({"inputs":[)", tail;
    bool any = false;
    for (const TensorSpec& spec : model.specs) {
        if (is_absent(random, spec)) continue;
        if (any) text += ",";
        any = true;
        const Values made = values(random, spec);
        message.sound = message.sound && made.sound;
        message.expected[spec.name] = made.numbers;
        const bool data = !binary || random.one_in(4);
        const DType sent = data ? spec.dtype : sent_as(random, spec.dtype);
        text += R"({"name":")" + spec.name + R"(","shape":[)" + sizes_text(made.shape) + R"(],"datatype":")" +
                datatype(sent) + "\",";
        if (data) {
            const Values flat{{static_cast<int64_t>(made.numbers.size())}, made.numbers, true};
            // A number alone has no nested form.
            const bool nested = !made.shape.empty() && random.one_in(2);
            if (nested && !shown_by_lists(made.shape)) message.sound = false;
            text += R"("data":)" + lists(random, nested ? made : flat, sent) + "}";
        } else if (model.memory.prefix && random.one_in(6)) {
            const size_t size = made.numbers.size() * item_size(sent);
            text += R"("parameters":{"shared_memory_region":")" + *model.memory.prefix +
                    R"(in","shared_memory_byte_size":)" + std::to_string(size) + "}}";
            message.expected[spec.name].assign(made.numbers.size(), 0);
        } else {
            const std::string bytes = bytes_of(made.numbers, sent);
            text += R"("parameters":{"binary_data_size":)" + std::to_string(bytes.size()) + "}}";
            tail += bytes;
        }
    }
    text += "]" + wishes(random, model) + "}";
    if (binary) {
        if (random.one_in(2)) text += std::string((64 - text.size() % 64) % 64, ' ');
        message.headers.emplace_back("inference-header-content-length", std::to_string(text.size()));
    }
    message.parts[0].content = text + tail;
    // Outputs may be wanted twice over, or in a region that is too short, and an empty list of inputs decides
    // nothing.
    if (!any) message.sound = false;
    return message;
}

std::string npy_file(Random& random, const Values& made, DType dtype) {
    const DType sent = sent_as(random, dtype);
    const char kind = opserve::native::kind(sent);
    const size_t size = item_size(sent);
    const bool big = size > 1 && random.one_in(6);
    std::string header = "{'descr': '" +
                         std::string(size == 1 ? "|"
                                     : big     ? ">"
                                               : "<") +
                         kind + std::to_string(size) + "', 'fortran_order': False, 'shape': (" +
                         sizes_text(made.shape) + (made.shape.size() == 1 ? ",), }" : "), }");
    header += std::string(64 - (10 + header.size() + 1) % 64, ' ') + "\n";
    std::string bytes = bytes_of(made.numbers, sent);
    for (size_t at = 0; big && at < bytes.size(); at += size) {
        std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                     bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
    }
    std::string file("\x93NUMPY\x01\x00", 8);
    append(file, static_cast<uint16_t>(header.size()));
    return file + header + bytes;
}

std::optional<Message> npy(Random& random, const Model& model) {
    if (model.specs.size() != 1) return std::nullopt;
    const Values made = values(random, model.specs[0]);
    Message message = whole(npy_file(random, made, model.specs[0].dtype), "application/x-npy");
    message.expected[model.specs[0].name] = made.numbers;
    message.sound = made.sound;
    return message;
}

std::string zip(Random& random, const std::vector<std::pair<std::string, std::string>>& members) {
    std::string file, directory;
    for (const auto& [member, content] : members) {
        const uint16_t method = random.one_in(2) ? 8 : 0;
        const std::string packed = method == 8 ? deflated(random, content, IGZIP_DEFLATE) : content;
        std::string shared;
        append(shared, uint16_t{0});
        append(shared, method);
        append(shared, uint32_t{33} << 16);
        append(shared, crc(content));
        append(shared, static_cast<uint32_t>(packed.size()));
        append(shared, static_cast<uint32_t>(content.size()));
        append(shared, static_cast<uint16_t>(member.size()));
        append(shared, uint16_t{0});
        directory += std::string("PK\1\2\x14\0\x14\0", 8) + shared + std::string(10, '\0');
        append(directory, static_cast<uint32_t>(file.size()));
        directory += member;
        file += std::string("PK\3\4\x14\0", 6) + shared + member + packed;
    }
    const auto count = static_cast<uint16_t>(members.size());
    const auto at = static_cast<uint32_t>(file.size()), size = static_cast<uint32_t>(directory.size());
    file += directory + std::string("PK\5\6\0\0\0\0", 8);
    append(file, count);
    append(file, count);
    append(file, size);
    append(file, at);
    append(file, uint16_t{0});
    return file;
}

std::optional<Message> npz(Random& random, const Model& model) {
    std::vector<std::pair<std::string, std::string>> members;
    std::map<std::string, std::vector<double>> expected;
    bool sound = true;
    for (const TensorSpec& spec : model.specs) {
        if (is_absent(random, spec)) continue;
        const Values made = values(random, spec);
        sound = sound && made.sound;
        expected[spec.name] = made.numbers;
        members.emplace_back(spec.name + ".npy", npy_file(random, made, spec.dtype));
    }
    Message message = whole(zip(random, members), "application/x-npz");
    message.sound = sound;
    message.expected = std::move(expected);
    // An archive that is one part of a form is of a single array.
    if (opserve::native::kBody == model.specs[0].name) message.sound = false;
    return message;
}

// ---- images ----

void append_chunk(std::string& file, const char* kind, const std::string& data) {
    const std::string body = kind + data;
    append(file, __builtin_bswap32(static_cast<uint32_t>(data.size())));
    file += body;
    append(file, __builtin_bswap32(crc(body)));
}

std::string png_file(Random& random, const Values& made, int colour, int depth) {
    const int64_t height = made.shape[0], width = made.shape[1];
    std::string rows;
    for (int64_t row = 0; row < height; ++row) {
        if (colour == 0 && depth == 8) {
            rows += '\0';
            for (int64_t column = 0; column < width; ++column) {
                rows += static_cast<char>(made.numbers[static_cast<size_t>(row * width + column)]);
            }
        } else {
            const int samples = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1;
            rows += static_cast<char>(random.below(5));
            for (int64_t bits = width * samples * depth; bits > 0; bits -= 8)
                rows += static_cast<char>(random.bits());
        }
    }
    std::string header;
    append(header, __builtin_bswap32(static_cast<uint32_t>(width)));
    append(header, __builtin_bswap32(static_cast<uint32_t>(height)));
    header += {static_cast<char>(depth), static_cast<char>(colour), 0, 0, 0};
    std::string file = "\x89PNG\r\n\x1a\n";
    append_chunk(file, "IHDR", header);
    if (random.one_in(8)) {
        std::string exif("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0", 26);
        append_chunk(file, "eXIf", exif);
    }
    if (colour == 3) {
        std::string palette;
        for (int64_t i = 0; i < int64_t{3} << depth; ++i) palette += static_cast<char>(random.bits());
        append_chunk(file, "PLTE", palette);
    }
    const std::string packed = deflated(random, rows, IGZIP_ZLIB);
    const auto cut = static_cast<size_t>(random.below(static_cast<int64_t>(packed.size())));
    append_chunk(file, "IDAT", packed.substr(0, cut));
    append_chunk(file, "IDAT", packed.substr(cut));
    append_chunk(file, "IEND", "");
    return file;
}

std::string jpeg_file(Random& random, int width, int height, int channels) {
    jpeg_compress_struct compressor;
    jpeg_error_mgr errors;
    compressor.err = jpeg_std_error(&errors);
    jpeg_create_compress(&compressor);
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&compressor, &bytes, &size);
    compressor.image_width = static_cast<JDIMENSION>(width);
    compressor.image_height = static_cast<JDIMENSION>(height);
    compressor.input_components = channels;
    compressor.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&compressor);
    if (random.one_in(3))
        jpeg_set_colorspace(&compressor, channels == 1   ? JCS_GRAYSCALE
                                         : channels == 3 ? JCS_YCbCr
                                                         : JCS_YCCK);
    jpeg_set_quality(&compressor, static_cast<int>(1 + random.below(100)), TRUE);
    if (random.one_in(2)) jpeg_simple_progression(&compressor);
    if (random.one_in(4)) compressor.restart_interval = static_cast<unsigned>(1 + random.below(4));
    compressor.comp_info[0].h_samp_factor = static_cast<int>(1 + random.below(2));
    compressor.comp_info[0].v_samp_factor = static_cast<int>(1 + random.below(2));
    jpeg_start_compress(&compressor, TRUE);
    std::vector<unsigned char> row(static_cast<size_t>(width * channels));
    while (compressor.next_scanline < compressor.image_height) {
        for (unsigned char& sample : row) sample = static_cast<unsigned char>(random.bits());
        JSAMPROW rows[] = {row.data()};
        jpeg_write_scanlines(&compressor, rows, 1);
    }
    jpeg_finish_compress(&compressor);
    jpeg_destroy_compress(&compressor);
    std::string file(reinterpret_cast<char*>(bytes), size);
    std::free(bytes);
    return file;
}

bool takes_images(const TensorSpec& spec) { return spec.name == "image"; }

std::optional<Message> png(Random& random, const Model& model) {
    if (model.specs.size() != 1 || !takes_images(model.specs[0])) return std::nullopt;
    const Values made =
        values(random, tensor("image", DType::kUInt8, {1 + random.below(20), 1 + random.below(20)}));
    const auto [colour, depth] = random.pick<std::pair<int, int>>({{0, 8},
                                                                   {0, 8},
                                                                   {0, 1},
                                                                   {0, 2},
                                                                   {0, 4},
                                                                   {0, 16},
                                                                   {2, 8},
                                                                   {2, 16},
                                                                   {3, 1},
                                                                   {3, 2},
                                                                   {3, 4},
                                                                   {3, 8},
                                                                   {4, 8},
                                                                   {4, 16},
                                                                   {6, 8},
                                                                   {6, 16}});
    Message message = whole(png_file(random, made, colour, depth), "image/png");
    const auto& shape = model.specs[0].shape;
    const bool grey = shape.size() == 2 || shape[0] == 1;
    if (grey && colour == 0 && depth == 8) message.expected["image"] = made.numbers;
    return message;
}

std::optional<Message> jpeg(Random& random, const Model& model) {
    if (model.specs.size() != 1 || !takes_images(model.specs[0])) return std::nullopt;
    const int width = static_cast<int>(1 + random.below(30)), height = static_cast<int>(1 + random.below(30));
    return whole(jpeg_file(random, width, height, random.pick({1, 3, 3, 4})), "image/jpeg");
}

// ---- forms and compressed bodies ----

std::optional<Message> form(Random& random, const Model& model) {
    Message message;
    for (const TensorSpec& spec : model.specs) {
        if (is_absent(random, spec)) continue;
        Values made = values(random, spec);
        message.sound = message.sound && made.sound;
        Message::Part part{spec.name, "", ""};
        switch (random.below(takes_images(spec) ? 5 : 3)) {
            case 0:
                part.type = "application/json";
                part.content = lists(random, made, spec.dtype);
                if (!shown_by_lists(made.shape)) message.sound = false;
                break;
            case 1:
                part.content = npy_file(random, made, spec.dtype);
                break;
            case 2:
                part.content = zip(random, {{"a.npy", npy_file(random, made, spec.dtype)}});
                break;
            case 3:
                made = values(random,
                              tensor("image", DType::kUInt8, {1 + random.below(20), 1 + random.below(20)}));
                part.content = png_file(random, made, 2, 8);
                made.numbers.clear();
                break;
            default:
                part.content = jpeg_file(random, 9, 7, 3);
                made.numbers.clear();
        }
        if (!made.numbers.empty()) message.expected[spec.name] = made.numbers;
        message.parts.push_back(std::move(part));
    }
    if (message.parts.empty()) message.sound = false;
    return message;
}

std::optional<Message> compressed(Random& random, const Model& model) {
    auto message = random.pick({json, oip, npz, npy})(random, model);
    if (!message || model.specs[0].name == opserve::native::kBody) return std::nullopt;
    std::string& content = message->parts[0].content;
    const uint16_t wrapper = random.pick<uint16_t>({IGZIP_GZIP, IGZIP_ZLIB, IGZIP_DEFLATE});
    content = deflated(random, content, wrapper);
    message->headers.emplace_back("content-encoding", wrapper == IGZIP_GZIP ? "gzip" : "deflate");
    // A raw stream may begin as zlib's do.
    if (wrapper == IGZIP_DEFLATE) message->sound = false;
    return message;
}

std::optional<Message> junk(Random& random, const Model&) {
    std::string content = random.pick<std::string>({"", "\x93NUMPY", std::string("\x93NUMPY\1\0", 8),
                                                    "PK\3\4", "PK\5\6", "\x89PNG\r\n\x1a\n", "\xff\xd8\xff",
                                                    "{", "[", R"({"inputs":[)", "\xef\xbb\xbf"});
    for (int64_t length = random.below(60); length > 0; --length) content += static_cast<char>(random.bits());
    Message message =
        whole(content, random.pick({"", "application/json", "application/x-npz", "image/png", "a/b"}));
    message.sound = false;
    return message;
}

// ---- damage ----

const std::vector<std::string> kPieces{"[",
                                       "]",
                                       "{",
                                       "}",
                                       ",",
                                       ":",
                                       "\"",
                                       "\\",
                                       "\\ud800",
                                       "\\u0000",
                                       "NaN",
                                       "Infinity",
                                       "-Infinity",
                                       "1e999",
                                       "-1e999",
                                       "1e-999",
                                       "0e99999999999",
                                       "9223372036854775808",
                                       "18446744073709551616",
                                       "9007199254740993.0",
                                       "1.",
                                       ".5",
                                       "01",
                                       "true",
                                       "null",
                                       "\xff",
                                       "\xed\xa0\x80",
                                       "\xc0\x80",
                                       std::string(1, '\0'),
                                       "\xef\xbb\xbf",
                                       "-",
                                       "'",
                                       "(",
                                       ")",
                                       "2147483648",
                                       "4294967296",
                                       "4611686018427387904",
                                       "-1",
                                       "True",
                                       "'<f8'",
                                       "'|O'",
                                       "PK\3\4",
                                       "PK\1\2",
                                       "PK\5\6",
                                       "IDAT",
                                       "IHDR",
                                       "PLTE",
                                       "IEND",
                                       "eXIf",
                                       "\xff\xd9",
                                       "\xff\xda",
                                       "\xff\xc4",
                                       "\xff\xc2",
                                       "\xff\xdd"};

void damage(Random& random, std::string& bytes) {
    const auto size = static_cast<int64_t>(bytes.size());
    // What is interesting is near the beginning or the end.
    int64_t at = random.below(size + 1);
    if (random.one_in(2)) at = std::min(at, random.below(100));
    if (random.one_in(4)) at = std::max<int64_t>(0, size - random.below(80) - 1);
    const auto place = static_cast<size_t>(at);
    switch (random.below(8)) {
        case 0:
            if (place < bytes.size()) bytes[place] = static_cast<char>(random.bits());
            break;
        case 1:
            if (place < bytes.size()) bytes[place] = static_cast<char>(bytes[place] ^ 1 << random.below(8));
            break;
        case 2: {
            std::string number;
            const uint64_t value =
                random.pick<uint64_t>({0, 1, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~0ULL});
            append(number, random.one_in(2) ? value : __builtin_bswap64(value));
            const size_t width = size_t{1} << random.below(4);
            bytes.replace(place, width, number.substr(random.one_in(2) ? 0 : 8 - width, width));
            break;
        }
        case 3:
            bytes.insert(place,
                         kPieces[static_cast<size_t>(random.below(static_cast<int64_t>(kPieces.size())))]);
            break;
        case 4: {
            const std::string& piece =
                kPieces[static_cast<size_t>(random.below(static_cast<int64_t>(kPieces.size())))];
            bytes.replace(place, piece.size(), piece);
            break;
        }
        case 5:
            bytes.erase(place, static_cast<size_t>(1 + random.below(20)));
            break;
        case 6: {
            const std::string piece = bytes.substr(place, static_cast<size_t>(1 + random.below(60)));
            bytes.insert(place, random.one_in(20) ? piece + piece + piece : piece);
            break;
        }
        default:
            if (random.one_in(3)) bytes.resize(place);
    }
}

}  // namespace

const std::vector<Model>& models() {
    static const std::vector<Model> made = make_models();
    return made;
}

const std::vector<Kind> kinds{
    {"JSON", json},
    {"Open Inference", oip},
    {"npy", npy},
    {"npz", npz},
    {"PNG", png},
    {"JPEG", jpeg},
    {"form", form},
    {"JSON", json},
    {"compressed", compressed},
    {"junk", junk},
};

void damage(Random& random, Message& message) {
    message.sound = false;
    for (int64_t count = 1 + random.below(4); count > 0; --count) {
        if (!message.parts.empty() && !random.one_in(12)) {
            auto& part =
                message.parts[static_cast<size_t>(random.below(static_cast<int64_t>(message.parts.size())))];
            damage(random, random.one_in(40) ? part.type : random.one_in(60) ? part.name : part.content);
        } else if (!message.headers.empty()) {
            damage(
                random,
                message
                    .headers[static_cast<size_t>(random.below(static_cast<int64_t>(message.headers.size())))]
                    .second);
        }
    }
}

// ---- shared memory ----

const std::string& SharedRegions::prefix() {
    static const std::string text = "opserve-fuzz-" + std::to_string(getpid()) + "-";
    return text;
}

SharedRegions::SharedRegions() {
    for (const char* region : {"in", "out"}) {
        const int file = shm_open(("/" + prefix() + region).c_str(), O_CREAT | O_RDWR | O_EXCL, 0600);
        if (file < 0 || ftruncate(file, 1 << 16) != 0) std::abort();
        close(file);
    }
}

SharedRegions::~SharedRegions() { remove(); }

void SharedRegions::remove() {
    for (const char* region : {"in", "out"}) shm_unlink(("/" + prefix() + region).c_str());
}

}  // namespace fuzz
