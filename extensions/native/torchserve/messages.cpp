#include "messages.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace opserve::native {
namespace {

constexpr int32_t kEnd = -1;
constexpr int kNoMemory = 507;
// Above so many, a linear search for each of them would take too long.
constexpr size_t kFew = 16;

// Marks that TorchServe puts among the headers of a request, spelt as it spells them. A sender's own header
// of the same name is there too if it is spelt differently.
constexpr std::string_view kDescribe = "describe", kExplain = "explain", kUrlPath = "url_path",
                           kTrue = "True";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool starts_like(std::string_view text, std::string_view prefix) {
    return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(),
                                                      [](char a, char b) { return a == lower(b); });
}

bool is_form(std::string_view media_type) {
    return starts_like(media_type, "multipart/") ||
           starts_like(media_type, "application/x-www-form-urlencoded");
}

using Headers = std::vector<std::pair<std::string, std::string>>;

// The value of the last header with exactly this name, or null.
const std::string* find_exactly(const Headers& headers, std::string_view name) {
    for (auto it = headers.rbegin(); it != headers.rend(); ++it)
        if (it->first == name) return &it->second;
    return nullptr;
}

// Whether a name is among the first `count` of some named things, and at which place; by a table if there are
// many.
template <typename NameOf>
class Places {
  public:
    Places(size_t count, NameOf name_of) : count_(count), name_of_(name_of) {
        if (count_ <= kFew) return;
        table_.reserve(count_);
        for (size_t i = 0; i < count_; ++i) table_.emplace(name_of_(i), i);
    }
    size_t find(std::string_view name) const {
        if (count_ > kFew) {
            const auto found = table_.find(name);
            return found == table_.end() ? count_ : found->second;
        }
        size_t i = 0;
        while (i < count_ && name_of_(i) != name) ++i;
        return i;
    }

  private:
    size_t count_;
    NameOf name_of_;
    std::unordered_map<std::string_view, size_t> table_;
};

// Puts the headers that a part is called by first, in the order of the parts: TorchServe keeps both in one
// dictionary, in which such a header has the part's place. And a part with such a name has no media type,
// which the header replaced.
void merge_names(std::vector<Part>& parts, Headers& headers) {
    const Places places(parts.size(), [&parts](size_t i) { return std::string_view(parts[i].name); });
    const auto place = [&places](const auto& header) { return places.find(header.first); };
    if (std::ranges::all_of(headers, [&](const auto& header) { return place(header) == parts.size(); }))
        return;
    for (const auto& header : headers)
        if (const size_t i = place(header); i < parts.size()) parts[i].content_type.clear();
    std::ranges::stable_sort(headers, {}, place);
}

// Makes names lower case, and keeps the last of those that are then equal.
void lower_names(Headers& headers) {
    for (auto& [name, value] : headers) std::ranges::transform(name, name.begin(), lower);
    std::unordered_set<std::string_view> seen;
    const bool many = headers.size() > kFew;
    std::vector<size_t> replaced;
    for (size_t i = headers.size(); i-- > 0;) {
        const auto is_same = [&headers, i](const auto& later) { return later.first == headers[i].first; };
        if (many ? !seen.insert(headers[i].first).second
                 : std::any_of(headers.begin() + static_cast<ptrdiff_t>(i) + 1, headers.end(), is_same))
            replaced.push_back(i);
    }
    if (replaced.empty()) return;
    seen.clear();
    size_t kept = 0;
    for (size_t i = 0; i < headers.size(); ++i) {
        if (!replaced.empty() && replaced.back() == i) {
            replaced.pop_back();
        } else {
            if (kept != i) headers[kept].swap(headers[i]);
            ++kept;
        }
    }
    headers.resize(kept);
}

// Keeps one of the parts with the same name: the last one, in the place of the first.
void merge_parts(std::vector<Part>& parts) {
    if (parts.size() < 2) return;
    const Places places(parts.size(), [&parts](size_t i) { return std::string_view(parts[i].name); });
    std::vector<size_t> first(parts.size());
    bool unique = true;
    for (size_t i = 0; i < parts.size(); ++i) {
        first[i] = places.find(parts[i].name);
        unique = unique && first[i] == i;
    }
    if (unique) return;
    // The table has views of the names, so they stay where they are until it is no longer needed.
    for (size_t i = 0; i < parts.size(); ++i) {
        if (first[i] == i) continue;
        parts[first[i]].content = std::move(parts[i].content);
        parts[first[i]].content_type = std::move(parts[i].content_type);
    }
    size_t kept = 0;
    for (size_t i = 0; i < parts.size(); ++i)
        if (first[i] == i) {
            if (kept != i) std::swap(parts[kept], parts[i]);
            ++kept;
        }
    parts.resize(kept);
}

// Returns the next element of a list that is filled again, with the memory of its last use.
template <typename T>
T& next(std::vector<T>& list, size_t index) {
    return index < list.size() ? list[index] : list.emplace_back();
}

}  // namespace

LoadMessage LoadMessage::read(Connection& connection) {
    LoadMessage message;
    connection.read_text(message.model_name, connection.read_int());
    connection.read_text(message.model_path, connection.read_int());
    message.batch_size = connection.read_int();
    connection.read_text(message.handler, connection.read_int());
    if (const int32_t gpu = connection.read_int(); gpu >= 0) message.gpu = gpu;
    connection.read_text(message.envelope, connection.read_int());
    connection.read_byte();  // a bound on the pixels of images, which archives have of their own
    return message;
}

void Batch::read(Connection& connection) {
    release();
    size_ = 0;
    for (int32_t length; (length = connection.read_int()) != kEnd;) {
        Request& request = next(requests_, size_);
        Marks& marks = next(marks_, size_);
        connection.read_text(marks.id, length);
        read_headers(connection, request);
        read_parts(connection, request);
        mark(request, marks);
        ++size_;
    }
}

void Batch::read_headers(Connection& connection, Request& request) {
    size_t count = 0;
    for (int32_t length; (length = connection.read_int()) != kEnd; ++count) {
        auto& [name, value] = next(request.headers, count);
        connection.read_text(name, length);
        connection.read_text(value, connection.read_int());
    }
    request.headers.resize(count);
}

void Batch::read_parts(Connection& connection, Request& request) {
    request.refusal.reset();
    size_t count = 0;
    for (int32_t length; (length = connection.read_int()) != kEnd; ++count) {
        Part& part = next(request.parts, count);
        connection.read_text(part.name, length);
        connection.read_text(part.content_type, connection.read_int());
        const int32_t size = connection.read_int();
        if (size < 0) throw ProtocolError("a body of negative length");
        // Straight into its final place: bodies are large, and arrays are views of them.
        part.content = buffers_.take(static_cast<size_t>(size));
        if (part.content.owner) {
            connection.read_bytes(part.content.bytes);
        } else {
            connection.skip(static_cast<uint64_t>(size));
            request.refusal.emplace("there is no memory for this request", std::nullopt, kNoMemory);
        }
    }
    request.parts.resize(count);
    merge_parts(request.parts);
}

void Batch::mark(Request& request, Marks& marks) {
    request.explain = request.open_inference = request.grpc_infer = false;
    Headers& headers = request.headers;
    const auto says_true = [](const std::string* value) { return value != nullptr && *value == kTrue; };
    marks.describe = says_true(find_exactly(headers, kDescribe));
    if (headers.empty()) {  // by gRPC; only one of its calls has a declared type of content
        request.grpc_infer = request.parts.size() == 1 && request.parts[0].name == kBody &&
                             request.parts[0].content_type == "application/json";
    } else if (const std::string* explain = find_exactly(headers, kExplain)) {
        request.explain = *explain == kTrue;
        // Of the addresses that carry the mark, those under /v1 and /v2 have no path after the model's name.
        request.open_inference = find_exactly(headers, kUrlPath) == nullptr;
    }
    merge_names(request.parts, headers);
    lower_names(headers);
    const std::string* media_type = request.header("content-type");
    marks.form = media_type != nullptr && is_form(*media_type);
}

void Batch::release() {
    for (Request& request : requests())
        for (Part& part : request.parts) part.content = {};
    buffers_.recycle();
}

}  // namespace opserve::native
