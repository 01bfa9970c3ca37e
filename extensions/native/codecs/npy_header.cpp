#include "npy_header.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "literal.h"

namespace opserve::native {
namespace {

static_assert(std::endian::native == std::endian::little);

struct KnownType {
    std::string_view code, name;
};
constexpr KnownType kTypes[] = {
    {"b1", "bool"},    {"i1", "int8"},    {"u1", "uint8"},     {"i2", "int16"},       {"u2", "uint16"},
    {"i4", "int32"},   {"u4", "uint32"},  {"i8", "int64"},     {"u8", "uint64"},      {"f2", "float16"},
    {"f4", "float32"}, {"f8", "float64"}, {"c8", "complex64"}, {"c16", "complex128"},
};

// As str.strip does in Latin-1.
std::string_view strip(std::string_view text) {
    const auto is_space = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte == ' ' || (byte >= 0x09 && byte <= 0x0d) || (byte >= 0x1c && byte <= 0x1f) ||
               byte == 0x85 || byte == 0xa0;
    };
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

[[noreturn]] void refuse(BadNpyHeader::Reason reason) { throw BadNpyHeader(reason); }

Shape read_shape(const Literal& tuple) {
    if (tuple.kind != Literal::Kind::kTuple) refuse(BadNpyHeader::Reason::kValues);
    Shape shape;
    shape.reserve(tuple.items.size());
    for (const Literal& size : tuple.items) {
        if (size.kind != Literal::Kind::kInteger || size.negative) refuse(BadNpyHeader::Reason::kValues);
        if (!size.integer) refuse(BadNpyHeader::Reason::kTooLarge);
        shape.push_back(*size.integer);
    }
    return shape;
}

}  // namespace

NpyHeader parse_npy_header(std::string_view text) {
    using Kind = Literal::Kind;
    if (text.find('\\') != std::string_view::npos) refuse(BadNpyHeader::Reason::kBackslash);
    std::optional<Literal> literal = parse_literal(strip(text));
    if (!literal) refuse(BadNpyHeader::Reason::kUnreadable);
    if (literal->kind != Kind::kDict) refuse(BadNpyHeader::Reason::kKeys);
    Literal *descr = nullptr, *order = nullptr, *shape = nullptr;
    for (size_t i = 0; i < literal->items.size(); i += 2) {
        const Literal& key = literal->items[i];
        Literal** place = key.kind != Kind::kString       ? nullptr
                          : key.string == "descr"         ? &descr
                          : key.string == "fortran_order" ? &order
                          : key.string == "shape"         ? &shape
                                                          : nullptr;
        if (place == nullptr) refuse(BadNpyHeader::Reason::kKeys);
        *place = &literal->items[i + 1];  // the last one, if there are several
    }
    if (!descr || !order || !shape) refuse(BadNpyHeader::Reason::kKeys);
    if (descr->kind == Kind::kList) refuse(BadNpyHeader::Reason::kFields);
    if (descr->kind != Kind::kString || order->kind != Kind::kBool) refuse(BadNpyHeader::Reason::kValues);
    return {std::move(descr->string), order->boolean, read_shape(*shape)};
}

std::optional<NpyType> parse_npy_type(std::string_view descr) {
    const bool has_order =
        !descr.empty() && std::string_view("<>=|").find(descr[0]) != std::string_view::npos;
    const std::string_view code = descr.substr(has_order ? 1 : 0);
    const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const KnownType& known) {
        return code == known.code || (!has_order && descr == known.name);
    });
    if (found == std::end(kTypes)) return std::nullopt;
    const int item_size = found->code == "c16" ? 16 : found->code[1] - '0';
    return NpyType{found->code[0], item_size, descr[0] == '>' && item_size > 1};
}

std::string make_npy_header(const NpyType& type, const Shape& shape) {
    std::string header("\x93NUMPY\x01\0\0\0{'descr': '", 21);
    header.reserve(192);
    header += type.item_size == 1 ? '|' : '<';
    header += type.kind;
    header += std::to_string(type.item_size);
    header += "', 'fortran_order': False, 'shape': (";
    for (size_t axis = 0; axis < shape.size(); ++axis) {
        if (axis > 0) header += ' ';
        header += std::to_string(shape[axis]);
        if (axis + 1 < shape.size() || shape.size() == 1) header += ',';
    }
    header += "), }";
    // NumPy leaves room for the first size to grow, and at least one space before the elements, which begin
    // at a multiple of 64 bytes.
    constexpr size_t kLongestSize = 21, kAlignment = 64, kStart = 10;
    if (!shape.empty()) header.append(kLongestSize - std::to_string(shape[0]).size(), ' ');
    header.append(kAlignment - (header.size() + 1) % kAlignment, ' ');
    header += '\n';
    const size_t length = header.size() - kStart;
    header[8] = static_cast<char>(length & 0xff);
    header[9] = static_cast<char>(length >> 8);
    return header;
}

}  // namespace opserve::native
