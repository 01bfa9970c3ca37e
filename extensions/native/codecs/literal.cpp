#include "literal.h"

#include <algorithm>
#include <utility>

namespace opserve::native {
namespace {

// Python's tokenizer refuses more brackets in brackets; it bounds the recursion here too.
constexpr int kDeepest = 200;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_quote(char c) { return c == '\'' || c == '"'; }
// Also every character beyond ASCII: whether it can be part of a name does not matter, since none of them is
// a literal.
bool is_name(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Every line ends in \n, as Python's tokenizer makes them.
std::string translate_lines(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\r') {
            result += '\n';
            if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
        } else {
            result += text[i];
        }
    }
    return result;
}

// A literal, and what decides whether it may be part of a larger one.
struct Value {
    enum class Number : uint8_t { kNone, kReal, kComplex };

    Literal literal;
    Number number = Number::kNone;
    bool is_constant = false;  // a number without a sign
    bool is_hashable = true;
    bool is_set_name = false;  // the name `set`, which is a literal only with () behind it
};

// Each function returns false where the text is not a literal, and leaves `at_` anywhere then.
class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    bool parse(Literal& result) {
        Value value;
        if (!begin() || !element(value)) return false;
        skip();
        if (peek() == ',') {  // a tuple needs no parentheses here
            Literal tuple;
            tuple.kind = Literal::Kind::kTuple;
            tuple.items.push_back(std::move(value.literal));
            for (; accept(','); skip()) {
                skip();
                if (at_ == text_.size() || peek() == '\n') break;
                Value next;
                if (!element(next)) return false;
                tuple.items.push_back(std::move(next.literal));
            }
            value.literal = std::move(tuple);
        }
        result = std::move(value.literal);
        return end();
    }

  private:
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    bool accept(char wanted) {
        if (peek() != wanted) return false;
        ++at_;
        return true;
    }

    // Skips white space and comments, and within brackets the ends of lines.
    void skip() {
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
                if (at_ == text_.size() || level_ == 0) return;
            } else if (c != ' ' && c != '\t' && c != '\f' && !(c == '\n' && level_ > 0)) {
                return;
            }
        }
    }

    // Skips lines without any token; the first other one must not be indented.
    bool begin() {
        for (;;) {
            bool indented = false;
            for (; peek() == ' ' || peek() == '\t' || peek() == '\f'; ++at_) indented = peek() != '\f';
            skip();
            if (at_ == text_.size()) return false;
            if (peek() != '\n') return !indented;
            ++at_;
        }
    }

    bool end() {
        for (skip(); peek() == '\n'; skip()) ++at_;
        return at_ == text_.size();
    }

    bool open() {
        ++at_;
        return ++level_ <= kDeepest;
    }
    bool close(char wanted) {
        if (!accept(wanted)) return false;
        --level_;
        return true;
    }

    // A whole literal, as opposed to a part of one.
    bool element(Value& value) { return sum(value) && !value.is_set_name; }

    // The sum or difference of a real number and an imaginary one, or a literal without an operator.
    bool sum(Value& value) {
        if (!signed_number(value)) return false;
        skip();
        if (peek() != '+' && peek() != '-') return true;
        ++at_;
        skip();
        Value imaginary;
        if (value.number != Value::Number::kReal || !primary(imaginary)) return false;
        if (imaginary.number != Value::Number::kComplex || !imaginary.is_constant) return false;
        value = Value{};
        return true;
    }

    bool signed_number(Value& value) {
        const char sign = peek();
        if (sign != '+' && sign != '-') return primary(value);
        ++at_;
        skip();
        if (!primary(value) || !value.is_constant) return false;
        value.is_constant = false;
        if (sign == '-' && value.literal.kind == Literal::Kind::kInteger) {
            value.literal.negative = value.literal.integer != 0;
            if (value.literal.integer) value.literal.integer = -*value.literal.integer;
        }
        return true;
    }

    bool primary(Value& value) {
        if (!atom(value)) return false;
        if (!value.is_set_name) return true;
        skip();
        if (peek() != '(') return true;
        if (!open()) return false;
        skip();
        value = Value{};
        value.is_hashable = false;
        return close(')');
    }

    bool atom(Value& value) {
        const char c = peek();
        if (c == '(') return parentheses(value);
        if (c == '[') return list(value);
        if (c == '{') return braces(value);
        if (text_.substr(at_).starts_with("...")) {
            at_ += 3;
            return true;
        }
        if (is_digit(c) || c == '.') return number(value);
        size_t quote = 0;
        bool is_bytes = false;
        if (find_quote(quote, is_bytes)) return strings(value);
        return name(value);
    }

    bool name(Value& value) {
        const size_t start = at_;
        while (is_name(peek())) ++at_;
        const std::string_view word = text_.substr(start, at_ - start);
        if (word == "True" || word == "False") {
            value.literal.kind = Literal::Kind::kBool;
            value.literal.boolean = word == "True";
            return true;
        }
        value.is_set_name = word == "set";
        return value.is_set_name || word == "None";
    }

    // -- brackets --

    // The rest of elements up to `closing`, which may have a comma before it; `first` is the first one.
    bool elements(char closing, Value first, std::vector<Literal>& items, bool& hashable) {
        hashable = first.is_hashable;
        items.push_back(std::move(first.literal));
        for (skip(); accept(','); skip()) {
            skip();
            if (peek() == closing) break;
            Value next;
            if (!element(next)) return false;
            hashable = hashable && next.is_hashable;
            items.push_back(std::move(next.literal));
        }
        return close(closing);
    }

    bool parentheses(Value& value) {
        if (!open()) return false;
        skip();
        if (peek() == ')') {
            value.literal.kind = Literal::Kind::kTuple;
            return close(')');
        }
        Value first;
        if (!sum(first)) return false;
        skip();
        if (peek() != ',') {
            value = std::move(first);
            return close(')');
        }
        value.literal.kind = Literal::Kind::kTuple;
        if (first.is_set_name) return false;
        return elements(')', std::move(first), value.literal.items, value.is_hashable);
    }

    bool list(Value& value) {
        if (!open()) return false;
        value.literal.kind = Literal::Kind::kList;
        skip();
        bool any = false;
        if (peek() != ']') {
            Value first;
            if (!element(first) || !elements(']', std::move(first), value.literal.items, any)) return false;
        } else if (!close(']')) {
            return false;
        }
        value.is_hashable = false;
        return true;
    }

    // A dict, or a set.
    bool braces(Value& value) {
        if (!open()) return false;
        value.literal.kind = Literal::Kind::kDict;
        value.is_hashable = false;
        skip();
        if (peek() == '}') return close('}');
        Value first;
        if (!element(first)) return false;
        skip();
        if (peek() != ':') {
            value.literal.kind = Literal::Kind::kOther;
            bool hashable = false;
            std::vector<Literal> items;
            return elements('}', std::move(first), items, hashable) && hashable;
        }
        Value key = std::move(first);
        for (;;) {
            Value item;
            skip();
            if (!key.is_hashable || !accept(':')) return false;
            skip();
            if (!element(item)) return false;
            value.literal.items.push_back(std::move(key.literal));
            value.literal.items.push_back(std::move(item.literal));
            skip();
            if (!accept(',')) break;
            skip();
            if (peek() == '}') break;
            key = Value{};
            if (!element(key)) return false;
        }
        return close('}');
    }

    // -- texts --

    // Whether a text, with or without a prefix, begins here; where its quote is then.
    bool find_quote(size_t& quote, bool& is_bytes) const {
        quote = at_;
        std::string prefix;
        for (; quote < text_.size() && !is_quote(text_[quote]); ++quote) {
            if (prefix.size() == 2) return false;
            prefix += lower(text_[quote]);
        }
        is_bytes = prefix == "b" || prefix == "br" || prefix == "rb";
        return quote < text_.size() && (is_bytes || prefix.empty() || prefix == "r" || prefix == "u");
    }

    // Texts one after the other, which Python joins.
    bool strings(Value& value) {
        size_t quote = 0;
        bool is_bytes = false, next_is_bytes = false;
        find_quote(quote, is_bytes);
        value.literal.kind = is_bytes ? Literal::Kind::kOther : Literal::Kind::kString;
        for (; find_quote(quote, next_is_bytes); skip()) {
            at_ = quote;
            if (next_is_bytes != is_bytes || !string(is_bytes, value.literal.string)) return false;
        }
        return true;
    }

    bool string(bool is_bytes, std::string& into) {
        const std::string_view one = text_.substr(at_, 1);
        const std::string three(3, one[0]);
        const bool tripled = text_.substr(at_).starts_with(three);
        const std::string_view delimiter = tripled ? std::string_view(three) : one;
        const size_t start = at_ + delimiter.size(), found = text_.find(delimiter, start);
        if (found == std::string_view::npos) return false;
        const std::string_view content = text_.substr(start, found - start);
        if (!tripled && content.find('\n') != std::string_view::npos) return false;
        const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
        if (is_bytes && !std::all_of(content.begin(), content.end(), is_ascii)) return false;
        into += content;
        at_ = found + delimiter.size();
        return true;
    }

    // -- numbers --

    // Digits of a base, of which two may have an underscore between them; the first may have one before it if
    // `after` is set. Adds them to `integer`.
    bool digits(int base, bool after, std::optional<int64_t>& integer) {
        const auto digit = [base](char c) {
            const int value = is_digit(c)                          ? c - '0'
                              : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10
                                                                   : base;
            return value < base ? value : -1;
        };
        for (bool first = true;; first = false) {
            if ((!first || after) && peek() == '_') {
                ++at_;
                if (digit(peek()) < 0) return false;
            }
            const int value = digit(peek());
            if (value < 0) return !first;
            int64_t sum = 0;
            if (integer && !__builtin_mul_overflow(*integer, int64_t{base}, &sum) &&
                !__builtin_add_overflow(sum, int64_t{value}, &sum)) {
                integer = sum;
            } else {
                integer = std::nullopt;
            }
            ++at_;
        }
    }

    bool number(Value& value) {
        const size_t start = at_;
        const char kind = at_ + 1 < text_.size() ? lower(text_[at_ + 1]) : '\0';
        std::optional<int64_t> integer = 0, ignored = 0;
        bool whole = true;
        value.number = Value::Number::kReal;
        value.is_constant = true;
        if (peek() == '0' && (kind == 'x' || kind == 'o' || kind == 'b')) {
            at_ += 2;
            if (!digits(kind == 'x' ? 16 : kind == 'o' ? 8 : 2, true, integer)) return false;
        } else {
            const bool before = is_digit(peek());
            if (before && !digits(10, false, integer)) return false;
            if (accept('.')) {
                whole = false;
                const bool after = is_digit(peek());
                if (!before && !after) return false;
                if (after && !digits(10, false, ignored)) return false;
            }
            if (lower(peek()) == 'e') {
                whole = false;
                ++at_;
                if (peek() == '+' || peek() == '-') ++at_;
                if (!digits(10, false, ignored)) return false;
            }
            if (lower(peek()) == 'j') {
                whole = false;
                ++at_;
                value.number = Value::Number::kComplex;
            }
            // Python has 00 and 01.5, but not 01.
            if (whole && text_[start] == '0' && at_ - start > 1 && integer != 0) return false;
        }
        if (whole) {
            value.literal.kind = Literal::Kind::kInteger;
            value.literal.integer = integer;
        }
        return !is_name(peek());
    }

    std::string_view text_;
    size_t at_ = 0;
    int level_ = 0;
};

}  // namespace

std::optional<Literal> parse_literal(std::string_view text) {
    if (text.find('\\') != std::string_view::npos || text.find('\0') != std::string_view::npos)
        return std::nullopt;
    const std::string lines = translate_lines(text);
    Literal result;
    if (!Parser(lines).parse(result)) return std::nullopt;
    return result;
}

}  // namespace opserve::native
