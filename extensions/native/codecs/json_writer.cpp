#include "json_writer.h"

#include <cmath>
#include <cstring>

#include "../common/half.h"

namespace opserve::native {

namespace {

// How orjson writes numbers of a type: with a point if the position of that, counted from the first digit, is
// in this range, and with an exponent otherwise.
template <typename T>
struct Notation;
template <>
struct Notation<float> {
    static constexpr int kFirst = -5, kLast = 13;
    static constexpr float kWholeBelow = 1 << 24;  // a smaller whole number has all its digits
};
template <>
struct Notation<double> {
    static constexpr int kFirst = -4, kLast = 16;
    static constexpr double kWholeBelow = int64_t{1} << 53;
};

char* copy(char* to, const char* from, size_t length) {
    std::memcpy(to, from, length);
    return to + length;
}

char* fill_zeros(char* to, int count) {
    std::memset(to, '0', static_cast<size_t>(count));
    return to + count;
}

// Writes a finite number: the shortest digits that are read as the same number, and of those the nearest.
template <typename T>
char* write_finite(char* to, T value) {
    if (std::signbit(value)) {
        *to++ = '-';
        value = -value;
    }
    if (value < Notation<T>::kWholeBelow) {
        const auto whole = static_cast<uint64_t>(value);
        if (static_cast<T>(whole) == value) return copy(std::to_chars(to, to + 20, whole).ptr, ".0", 2);
    }
    char text[32];  // d.ddde±dd
    const char* end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    const char* mark = end - (end[-4] == 'e' ? 4 : 5);
    int exponent = 0;
    std::from_chars(mark + 2, end, exponent);
    if (mark[1] == '-') exponent = -exponent;
    const int point = exponent + 1;
    if (point < Notation<T>::kFirst || point > Notation<T>::kLast) {
        to = copy(to, text, static_cast<size_t>(mark - text) + 1);
        *to++ = mark[1];
        return std::to_chars(to, to + 4, exponent < 0 ? -exponent : exponent).ptr;
    }
    const int digits = mark - text == 1 ? 1 : static_cast<int>(mark - text) - 1;
    text[1] = text[0];  // over the point, so that the digits are one piece
    const char* first = text + 1;
    if (point <= 0) {
        to = fill_zeros(copy(to, "0.", 2), -point);
        return copy(to, first, static_cast<size_t>(digits));
    }
    if (digits <= point) {
        to = fill_zeros(copy(to, first, static_cast<size_t>(digits)), point - digits);
        return copy(to, ".0", 2);
    }
    to = copy(to, first, static_cast<size_t>(point));
    *to++ = '.';
    return copy(to, first + point, static_cast<size_t>(digits - point));
}

template <typename T>
char* write_float(char* to, T value) {
    return std::isfinite(value) ? write_finite(to, value) : copy(to, "null", 4);
}

char* write_named(char* to, double value) {
    if (std::isfinite(value)) return write_finite(to, value);
    const std::string_view name = std::isnan(value) ? "\"NaN\""
                                  : value > 0       ? "\"Infinity\""
                                                    : "\"-Infinity\"";
    return copy(to, name.data(), name.size());
}

// Elements need not be aligned.
template <typename T>
T load(const std::byte* data) {
    T value;
    std::memcpy(&value, data, sizeof value);
    return value;
}

char* write_bool(char* to, const std::byte* data) {
    return *data != std::byte{0} ? copy(to, "true", 4) : copy(to, "false", 5);
}

template <typename T>
char* write_integer(char* to, const std::byte* data) {
    return std::to_chars(to, to + 20, load<T>(data)).ptr;
}

template <typename T>
char* write_real(char* to, const std::byte* data) {
    return write_float(to, load<T>(data));
}

char* write_half(char* to, const std::byte* data) {
    return write_float(to, half_to_float(load<uint16_t>(data)));
}

// The two characters of an escape, or 0 for one of six.
char short_escape(unsigned char character) {
    switch (character) {
        case '"':
            return '"';
        case '\\':
            return '\\';
        case '\b':
            return 'b';
        case '\t':
            return 't';
        case '\n':
            return 'n';
        case '\f':
            return 'f';
        case '\r':
            return 'r';
        default:
            return 0;
    }
}

}  // namespace

void JsonWriter::flush() {
    out_.append(buffer_, static_cast<size_t>(at_ - buffer_));
    at_ = buffer_;
    if (out_.size() > max_bytes_) throw ResponseTooLarge();
}

void JsonWriter::raw(std::string_view json) {
    if (json.size() > sizeof buffer_ / 2) {
        flush();
        out_.append(json);
        return;
    }
    reserve(json.size());
    at_ = copy(at_, json.data(), json.size());
}

void JsonWriter::text(std::string_view text) {
    put('"');
    size_t done = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto character = static_cast<unsigned char>(text[i]);
        if (character >= ' ' && character != '"' && character != '\\') continue;
        raw(text.substr(done, i - done));
        done = i + 1;
        reserve(6);
        if (const char escape = short_escape(character)) {
            *at_++ = '\\';
            *at_++ = escape;
        } else {
            constexpr char kDigits[] = "0123456789abcdef";
            at_ = copy(at_, "\\u00", 4);
            *at_++ = kDigits[character >> 4];
            *at_++ = kDigits[character & 15];
        }
    }
    raw(text.substr(done));
    put('"');
}

template <typename Put>
const std::byte* JsonWriter::nested(const std::byte* data, std::span<const int64_t> shape, size_t item_size,
                                    Put put_number) {
    const int64_t length = shape[0];
    put('[');
    if (shape.size() > 1) {
        for (int64_t i = 0; i < length; ++i) {
            if (i > 0) put(',');
            data = nested(data, shape.subspan(1), item_size, put_number);
        }
    } else {
        // A local pointer stays in a register: characters written through it might be those of the member.
        char* at = at_;
        const char* const last = buffer_ + sizeof buffer_ - kLongest;
        for (int64_t i = 0; i < length; ++i) {
            if (at > last) {
                at_ = at;
                flush();
                at = at_;
            }
            if (i > 0) *at++ = ',';
            at = put_number(at, data);
            data += item_size;
        }
        at_ = at;
    }
    put(']');
    return data;
}

void JsonWriter::elements(const Array& array, std::span<const int64_t> shape) {
    const size_t size = item_size(array.dtype);
    // Not a function pointer, so that each is inlined into its loop.
    const auto write = [&](auto put_number) {
        if (!shape.empty()) {
            nested(array.data, shape, size, put_number);
        } else {
            reserve(kLongest);
            at_ = put_number(at_, array.data);
        }
    };
    switch (array.dtype) {
        case DType::kBool:
            return write([](char* to, const std::byte* data) { return write_bool(to, data); });
        case DType::kUInt8:
            return write([](char* to, const std::byte* data) { return write_integer<uint8_t>(to, data); });
        case DType::kInt8:
            return write([](char* to, const std::byte* data) { return write_integer<int8_t>(to, data); });
        case DType::kUInt16:
            return write([](char* to, const std::byte* data) { return write_integer<uint16_t>(to, data); });
        case DType::kInt16:
            return write([](char* to, const std::byte* data) { return write_integer<int16_t>(to, data); });
        case DType::kUInt32:
            return write([](char* to, const std::byte* data) { return write_integer<uint32_t>(to, data); });
        case DType::kInt32:
            return write([](char* to, const std::byte* data) { return write_integer<int32_t>(to, data); });
        case DType::kUInt64:
            return write([](char* to, const std::byte* data) { return write_integer<uint64_t>(to, data); });
        case DType::kInt64:
            return write([](char* to, const std::byte* data) { return write_integer<int64_t>(to, data); });
        case DType::kFloat16:
            return write([](char* to, const std::byte* data) { return write_half(to, data); });
        case DType::kFloat32:
            return write([](char* to, const std::byte* data) { return write_real<float>(to, data); });
        case DType::kFloat64:
            return write([](char* to, const std::byte* data) { return write_real<double>(to, data); });
    }
}

void JsonWriter::lists(const Array& array) { elements(array, array.shape); }

void JsonWriter::flat(const Array& array) {
    const int64_t size = array.size();
    elements(array, {&size, 1});
}

void JsonWriter::numbers_and_names(const Array& array) {
    const int64_t size = array.size();
    const auto write = [&](auto put_number) {
        nested(array.data, {&size, 1}, item_size(array.dtype), put_number);
    };
    switch (array.dtype) {
        case DType::kFloat16:
            return write([](char* to, const std::byte* data) {
                return write_named(to, half_to_float(load<uint16_t>(data)));
            });
        case DType::kFloat32:
            return write([](char* to, const std::byte* data) { return write_named(to, load<float>(data)); });
        case DType::kFloat64:
            return write([](char* to, const std::byte* data) { return write_named(to, load<double>(data)); });
        default:
            return flat(array);
    }
}

void JsonWriter::sizes(const Shape& shape) {
    put('[');
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) put(',');
        number(shape[i]);
    }
    put(']');
}

}  // namespace opserve::native
