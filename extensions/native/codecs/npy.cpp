#include "npy.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "../common/utf8.h"
#include "npy_header.h"
#include "text.h"
#include "unreadable.h"

namespace opserve::native {
namespace {

// Headers of plain arrays take 128 bytes.
constexpr size_t kLongestHeader = 1024;
constexpr size_t kMostDimensions = 32;

// A header that is accepted.
struct Layout {
    DType dtype = DType::kFloat32;
    bool swapped = false, fortran_order = false;
    Shape shape;
};

std::optional<DType> find_dtype(const NpyType& type) {
    switch (type.kind) {
        case 'b':
            return DType::kBool;
        case 'i':
            return type.item_size == 1   ? DType::kInt8
                   : type.item_size == 2 ? DType::kInt16
                   : type.item_size == 4 ? DType::kInt32
                                         : DType::kInt64;
        case 'u':
            return type.item_size == 1   ? DType::kUInt8
                   : type.item_size == 2 ? DType::kUInt16
                   : type.item_size == 4 ? DType::kUInt32
                                         : DType::kUInt64;
        case 'f':
            return type.item_size == 2   ? DType::kFloat16
                   : type.item_size == 4 ? DType::kFloat32
                                         : DType::kFloat64;
        default:  // complex
            return std::nullopt;
    }
}

std::string_view explain(BadNpyHeader::Reason reason) {
    using Reason = BadNpyHeader::Reason;
    switch (reason) {
        case Reason::kBackslash:
            return "its .npy header has a backslash";
        case Reason::kUnreadable:
            return "its .npy header is not readable";
        case Reason::kKeys:
            return "its .npy header must hold descr, fortran_order and shape";
        default:
            return "its .npy header must hold a plain dtype, True or False, and a tuple of sizes";
    }
}

std::string to_utf8(std::string_view latin1) {
    std::string text;
    for (const char each : latin1) {
        char bytes[4];
        text.append(bytes, write_utf8(bytes, static_cast<unsigned char>(each)));
    }
    return text;
}

Layout parse_layout(std::string_view text, std::optional<std::string_view> field) {
    NpyHeader header;
    try {
        header = parse_npy_header(text);
        if (header.shape.size() > kMostDimensions) throw BadNpyHeader(BadNpyHeader::Reason::kValues);
    } catch (const BadNpyHeader& error) {
        throw unreadable(field, explain(error.reason()));
    }
    const std::optional<NpyType> type = parse_npy_type(header.descr);
    const std::optional<DType> dtype = type ? find_dtype(*type) : std::nullopt;
    if (!dtype) {
        throw unreadable(field, "its dtype " + quoted(to_utf8(header.descr)) +
                                    " is not accepted; send bool, integers or floats of at most 64 bits");
    }
    return {*dtype, type->swapped, header.fortran_order, std::move(header.shape)};
}

// A client sends the same header again and again. The layout is valid until the next call on this thread.
const Layout& find_layout(std::string_view text, std::optional<std::string_view> field) {
    struct Known {
        std::string text;
        Layout layout;
    };
    thread_local std::array<Known, 64> cache;
    Known& known = cache[std::hash<std::string_view>()(text) % cache.size()];
    if (known.text != text || text.empty()) {
        Layout layout = parse_layout(text, field);
        known.text.clear();  // it stays so if there is no memory for the new one
        known.layout = std::move(layout);
        known.text = text;
    }
    return known.layout;
}

// The bytes of an array, or none if 64 bits cannot hold their number.
std::optional<uint64_t> count_bytes(const Shape& shape, size_t each) {
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
    uint64_t bytes = each;
    for (const int64_t size : shape) {
        if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) return std::nullopt;
    }
    return bytes;
}

bool is_neither_0_nor_1(const Buffer& flags) {
    std::byte seen{0};
    for (const std::byte flag : flags.bytes) seen |= flag;
    return seen > std::byte{1};
}

}  // namespace

Array read_npy(const Buffer& content, std::optional<std::string_view> field) {
    const std::string_view text = content.text();
    if (!text.starts_with(kNpyMagic) || text.size() < 12) throw unreadable(field, "it is not an .npy file");
    const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(text[at])); };
    const size_t version = byte(6);
    if (version != 1 && version != 2) {
        throw unreadable(field, "version " + std::to_string(version) + " of the .npy format is not accepted");
    }
    const size_t start = version == 1 ? 10 : 12;
    const size_t length = byte(8) | byte(9) << 8 | (version == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
    if (length > kLongestHeader || start + length > text.size()) {
        throw unreadable(field, "its .npy header is truncated or longer than " +
                                    std::to_string(kLongestHeader) + " bytes");
    }
    const Layout& layout = find_layout(text.substr(start, length), field);
    Array array = view_as_array(content.slice(start + length, text.size() - start - length), layout.dtype,
                                layout.shape, field);
    array.swapped = layout.swapped;
    array.fortran_order = layout.fortran_order;
    return array;
}

Array view_as_array(const Buffer& data, DType dtype, const Shape& shape,
                    std::optional<std::string_view> field) {
    const size_t each = item_size(dtype);
    if (count_bytes(shape, each) != data.size()) {
        throw unreadable(field, std::string(name(dtype)) + " " + list_text(shape) + " needs " +
                                    product_text(shape, each) + " bytes, got " + std::to_string(data.size()));
    }
    if (dtype == DType::kBool && is_neither_0_nor_1(data)) {
        throw unreadable(field, "it holds a bool that is neither 0 nor 1");
    }
    Array array;
    array.dtype = dtype;
    array.data = data.bytes.data();
    array.owner = data.owner;
    return reshape(std::move(array), shape, field);
}

Array reshape(Array array, const Shape& shape, std::optional<std::string_view> field) {
    // NumPy computes the strides of an empty array too.
    int64_t bytes = static_cast<int64_t>(item_size(array.dtype));
    for (const int64_t size : shape) {
        if (size > 0 && __builtin_mul_overflow(bytes, size, &bytes)) {
            throw unreadable(field, "no array can have the shape " + list_text(shape));
        }
    }
    array.shape = shape;
    return array;
}

}  // namespace opserve::native
