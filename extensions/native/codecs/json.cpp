#include "json.h"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <new>
#include <string>
#include <tuple>

#include "json_bounds.h"
#include "json_lenient.h"

namespace opserve::native {
namespace {

// What the parsers keep takes up to 13 times the text, and halves the time that a request takes; after texts
// larger than this it is released.
constexpr size_t kKept = 4 << 20;
constexpr size_t kMaxDepth = 1024;
static_assert(simdjson::SIMDJSON_PADDING <= Part::kPadding);

}  // namespace

struct JsonDocument::State {
    simdjson::dom::parser parser;
    LenientJson lenient;
    JsonTape tape;

    // Returns whether the text is JSON, and in the range of the numbers of simdjson.
    bool parse_strictly(std::string_view text);
    bool is_small() const { return parser.capacity() <= kKept && lenient.bytes_held() <= kKept; }
};

bool JsonDocument::State::parse_strictly(std::string_view text) {
    // Grows in steps, so that bodies of slightly different sizes do not allocate again and again.
    const size_t wanted =
        text.size() > kKept ? text.size() : std::bit_ceil(std::max<size_t>(text.size(), 4096));
    simdjson::error_code error = simdjson::SUCCESS;
    if (parser.capacity() < text.size()) error = parser.allocate(wanted, kMaxDepth);
    if (error == simdjson::SUCCESS && parser.doc.capacity() < text.size())
        error = parser.doc.allocate(wanted);
    if (error == simdjson::SUCCESS) error = parser.parse(text.data(), text.size(), false).error();
    if (error == simdjson::MEMALLOC) throw std::bad_alloc();
    tape = {parser.doc.tape.get(), parser.doc.string_buf.get()};
    return error == simdjson::SUCCESS;
}

// The states of this thread that wait for the next text.
class JsonDocument::Kept {
  public:
    static std::unique_ptr<State> take() {
        if (states().empty()) return std::make_unique<State>();
        std::unique_ptr<State> state = std::move(states().back());
        states().pop_back();
        return state;
    }

    static void give(std::unique_ptr<State> state) noexcept {
        constexpr size_t most = 2;
        if (state && state->is_small() && states().size() < most) states().push_back(std::move(state));
    }

  private:
    static std::vector<std::unique_ptr<State>>& states() {
        thread_local std::vector<std::unique_ptr<State>> states = [] {
            std::vector<std::unique_ptr<State>> made;
            made.reserve(2);
            return made;
        }();
        return states;
    }
};

JsonDocument::JsonDocument(std::unique_ptr<State> state) : state_(std::move(state)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
}
JsonDocument::~JsonDocument() { Kept::give(std::move(state_)); }

JsonDocument JsonDocument::parse(const Buffer& buffer, std::optional<std::string_view> field,
                                 const Signature& specs, int64_t max_bytes) {
    const std::string_view text = buffer.text();
    const JsonBounds bounds(text, field, max_bytes);
    JsonDocument document(Kept::take());
    State& state = *document.state_;
    if (bounds.is_for_simdjson() && state.parse_strictly(text)) {
        bounds.require_regular(state.tape, specs);
        return document;
    }
    bounds.require_regular();
    std::string reason = "it is not UTF-8";
    if (simdjson::validate_utf8(text)) {
        if (state.lenient.parse(text)) {
            state.tape = state.lenient.tape();
            return document;
        }
        reason = state.lenient.reason();
    }
    throw RequestError(subject(field) + " is not valid JSON: " + reason, field);
}

JsonValue JsonDocument::root() const { return {state_->tape, JsonTape::kFirst}; }

JsonKind JsonValue::kind() const {
    switch (tape_->tag(at_)) {
        case JsonTape::kObject:
            return JsonKind::kObject;
        case JsonTape::kArray:
            return JsonKind::kArray;
        case JsonTape::kString:
            return JsonKind::kString;
        case JsonTape::kInteger:
        case JsonTape::kUnsigned:
        case JsonTape::kBeyond:
            return JsonKind::kInteger;
        case JsonTape::kDouble:
            return JsonKind::kNumber;
        case JsonTape::kTrue:
        case JsonTape::kFalse:
            return JsonKind::kBool;
        default:
            return JsonKind::kNull;
    }
}

std::optional<int64_t> JsonValue::integer() const {
    if (tape_->tag(at_) != JsonTape::kInteger) return std::nullopt;
    return tape_->integer(at_);
}

std::optional<JsonValue> JsonValue::find(std::string_view name) const {
    std::optional<JsonValue> found;
    for (uint32_t at = at_ + 1, end = tape_->end(at_); at != end; at = tape_->after(at + 1)) {
        if (tape_->string(at) == name) found.emplace(*tape_, at + 1);
    }
    return found;
}

uint32_t JsonValue::last_place(uint32_t place) const {
    const std::string_view name = tape_->string(place);
    uint32_t last = 0;
    for (uint32_t at = at_ + 1, end = tape_->end(at_); at != end; at = tape_->after(at + 1)) {
        if (tape_->string(at) != name) continue;
        if (at < place) return 0;
        last = at;
    }
    return last;
}

JsonValue::Places JsonValue::places_of_names() const {
    // Sorted rather than put into a table, whose time would depend on what the sender knows of its hashes.
    struct Name {
        uint64_t hash;
        std::string_view text;
        uint32_t at;
    };
    std::vector<Name> names;
    names.reserve(size());
    for (uint32_t at = at_ + 1, end = tape_->end(at_); at != end; at = tape_->after(at + 1)) {
        const std::string_view text = tape_->string(at);
        names.push_back({std::hash<std::string_view>()(text), text, at});
    }
    std::sort(names.begin(), names.end(), [](const Name& left, const Name& right) {
        return std::tie(left.hash, left.text, left.at) < std::tie(right.hash, right.text, right.at);
    });
    Places places;
    places.reserve(names.size());
    for (size_t i = 0; i < names.size(); ++i) {
        if (i > 0 && names[i].text == names[i - 1].text) {
            places.back().second = names[i].at;
        } else {
            places.emplace_back(names[i].at, names[i].at);
        }
    }
    std::sort(places.begin(), places.end());
    return places;
}

}  // namespace opserve::native
