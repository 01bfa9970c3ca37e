#include "json.h"

#include <simdjson.h>

#include <charconv>
#include <utility>

namespace opserve::native {
namespace {

// NOLINTNEXTLINE(misc-no-recursion): the parser bounds the depth.
Json copy(const simdjson::dom::element& element) {
    using simdjson::dom::element_type;
    switch (element.type()) {
        case element_type::ARRAY: {
            JsonList list;
            for (const simdjson::dom::element each : simdjson::dom::array(element))
                list.push_back(copy(each));
            return {std::move(list)};
        }
        case element_type::OBJECT: {
            JsonObject object;
            for (const auto& [name, each] : simdjson::dom::object(element))
                object.insert_or_assign(std::string(name), copy(each));
            return {std::move(object)};
        }
        case element_type::INT64:
            return {int64_t(element)};
        case element_type::UINT64:
        case element_type::DOUBLE:
            return {double(element)};
        case element_type::STRING:
            return {std::string(std::string_view(element))};
        case element_type::BOOL:
            return {bool(element)};
        default:
            return {};
    }
}

void append_escape(std::string& out, unsigned unit) {
    static constexpr char kDigits[] = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[unit >> shift & 15];
}

// The parser has checked that the text is UTF-8.
void append_text(std::string& out, std::string_view text) {
    out += '"';
    for (size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte >= 0x80) {
            const unsigned length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
            unsigned point = byte & (0xff >> (length + 1));
            for (unsigned k = 1; k < length && i + k < text.size(); ++k)
                point = point << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3f);
            if (point >= 0x10000) {
                append_escape(out, 0xd800 + ((point - 0x10000) >> 10));
                append_escape(out, 0xdc00 + ((point - 0x10000) & 0x3ff));
            } else {
                append_escape(out, point);
            }
            i += length;
            continue;
        }
        ++i;
        switch (byte) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\r':
                out += "\\r";
                break;
            case '\t':
                out += "\\t";
                break;
            case '\b':
                out += "\\b";
                break;
            case '\f':
                out += "\\f";
                break;
            default:
                if (byte < 0x20)
                    append_escape(out, byte);
                else
                    out += static_cast<char>(byte);
        }
    }
    out += '"';
}

class Writer {
  public:
    Writer(std::string& out, bool indented) : out_(out), indented_(indented) {}

    // NOLINTNEXTLINE(misc-no-recursion): as deep as what was parsed.
    void write(const Json& json) {
        if (const auto* list = json.as<JsonList>()) {
            open('[');
            for (const Json& each : *list) {
                next();
                write(each);
            }
            close(']');
        } else if (const auto* object = json.as<JsonObject>()) {
            open('{');
            for (const auto& [name, each] : *object) {
                next();
                append_text(out_, name);
                out_ += ": ";
                write(each);
            }
            close('}');
        } else if (const auto* text = json.as<std::string>()) {
            append_text(out_, *text);
        } else if (const auto* integer = json.as<int64_t>()) {
            out_ += std::to_string(*integer);
        } else if (const auto* number = json.as<double>()) {
            char digits[32];
            out_.append(digits, std::to_chars(digits, digits + sizeof(digits), *number).ptr);
        } else if (const auto* truth = json.as<bool>()) {
            out_ += *truth ? "true" : "false";
        } else {
            out_ += "null";
        }
    }

  private:
    void open(char bracket) {
        out_ += bracket;
        ++depth_;
        first_ = true;
    }
    void next() {
        if (!first_) out_ += indented_ ? "," : ", ";
        if (indented_) break_line();
        first_ = false;
    }
    void close(char bracket) {
        --depth_;
        if (indented_ && !first_) break_line();
        out_ += bracket;
        first_ = false;
    }
    void break_line() {
        out_ += '\n';
        out_.append(2 * depth_, ' ');
    }

    std::string& out_;
    bool indented_;
    bool first_ = true;
    size_t depth_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view name) const {
    const auto* object = as<JsonObject>();
    if (object == nullptr) return nullptr;
    const auto found = object->find(name);
    return found == object->end() ? nullptr : &found->second;
}

Json parse_json(std::string_view text) {
    simdjson::dom::parser parser;
    simdjson::dom::element root;
    const simdjson::padded_string padded(text);
    if (const auto error = parser.parse(padded).get(root))
        throw std::invalid_argument(simdjson::error_message(error));
    return copy(root);
}

std::string write_json(const Json& value, bool indented) {
    std::string text;
    Writer(text, indented).write(value);
    return text;
}

}  // namespace opserve::native
