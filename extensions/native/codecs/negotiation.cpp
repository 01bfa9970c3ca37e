#include "negotiation.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "npy.h"
#include "text.h"

namespace opserve::native {

namespace {

// Browsers send some 150 characters.
constexpr size_t kMaxLength = 2048;

// What is offered, in the order of preference; binary data only to a request that asks for them itself.
constexpr std::array kOffers = {kJsonType, kNpzType, kOipType, kBinaryType};
constexpr size_t kBinary = 3;
constexpr std::string_view kKind = "application/*";  // of all of them

// A range's weight in thousandths, or nothing for a text that is no weight.
std::optional<int> read_weight(std::string_view text) {
    if (text.empty() || (text[0] != '0' && text[0] != '1')) return std::nullopt;
    int weight = (text[0] - '0') * 1000;
    if (text.size() > 1) {
        if (text[1] != '.' || text.size() > 5) return std::nullopt;
        int place = 100;
        for (const char digit : text.substr(2)) {
            if (digit < '0' || digit > '9') return std::nullopt;
            weight += (digit - '0') * place;
            place /= 10;
        }
    }
    return std::min(weight, 1000);
}

// The piece before the next `mark`, which is taken off the text with the mark; nothing once all of it was
// taken.
std::optional<std::string_view> next_piece(std::optional<std::string_view>& text, char mark) {
    if (!text) return std::nullopt;
    const size_t at = text->find(mark);
    const std::string_view piece = text->substr(0, at);
    if (at == std::string_view::npos) {
        text.reset();
    } else {
        text->remove_prefix(at + 1);
    }
    return piece;
}

struct Range {
    std::string_view media_type;
    int weight = 1000;
};

// One range of the header; nothing if it cannot be parsed, which counts as absent.
std::optional<Range> read_range(std::string_view text) {
    std::optional<std::string_view> left = text;
    Range range{strip(*next_piece(left, ';'))};
    while (const auto parameter = next_piece(left, ';')) {
        const size_t equals = parameter->find('=');
        if (!equals_ignoring_case(strip(parameter->substr(0, equals)), "q")) continue;
        const bool has_value = equals != std::string_view::npos;
        const auto weight =
            read_weight(has_value ? strip(parameter->substr(equals + 1)) : std::string_view());
        if (!weight) return std::nullopt;
        range.weight = *weight;
    }
    if (std::count(range.media_type.begin(), range.media_type.end(), '/') != 1) return std::nullopt;
    return range;
}

// Returns the index of the offer that the header prefers. Between equal weights a type that is named wins
// over one that only a wildcard covers, then the first offer. Parameters other than `q` are ignored.
size_t choose(std::string_view accept, size_t offered) {
    const size_t length = accept.size() <= kMaxLength ? 0 : count_characters(accept);
    if (length > kMaxLength) {
        throw RequestError("the header Accept has " + std::to_string(length) + " characters; at most " +
                           std::to_string(kMaxLength) + " are accepted");
    }
    if (strip(accept).empty()) return 0;
    // The highest weight of the ranges that name an offer, and of the wildcards; -1 where there are none.
    std::array<int, kOffers.size()> named;
    named.fill(-1);
    int of_kind = -1, of_all = -1;
    std::optional<std::string_view> left = accept;
    while (const auto text = next_piece(left, ',')) {
        const auto range = read_range(*text);
        if (!range) continue;
        int* weight = nullptr;
        if (range->media_type == "*/*") {
            weight = &of_all;
        } else if (equals_ignoring_case(range->media_type, kKind)) {
            weight = &of_kind;
        } else {
            for (size_t i = 0; i < offered; ++i) {
                if (equals_ignoring_case(range->media_type, kOffers[i])) weight = &named[i];
            }
        }
        if (weight != nullptr) *weight = std::max(*weight, range->weight);
    }
    // Weight and precision of the most precise range that covers an offer; that one decides, also when it
    // says 0.
    size_t best = 0;
    std::pair<int, int> best_rank{0, 0};
    for (size_t i = 0; i < offered; ++i) {
        std::pair<int, int> rank{0, 0};
        if (named[i] >= 0) {
            rank = {named[i], 3};
        } else if (of_kind >= 0) {
            rank = {of_kind, 2};
        } else if (of_all >= 0) {
            rank = {of_all, 1};
        }
        if (rank > best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    if (best_rank.first > 0) return best;
    std::string message = "'Accept: " + std::string(accept) + "' asks for none of ";
    for (size_t i = 0; i < offered; ++i) {
        if (i > 0) message += ", ";
        message += kOffers[i];
    }
    throw RequestError(message, std::nullopt, 406);
}

}  // namespace

ResponseFormat choose_format(std::string_view accept, std::shared_ptr<const InferRequest> infer_request) {
    // A request that asks for binary data itself gets them if it accepts either kind of body.
    const bool binary = infer_request != nullptr && infer_request->wants_binary();
    const size_t chosen = choose(accept, binary ? kOffers.size() : kBinary);
    ResponseFormat format;
    format.type = chosen == kBinary ? ResponseType::kJson : static_cast<ResponseType>(chosen);
    format.infer_request = std::move(infer_request);
    return format;
}

}  // namespace opserve::native
