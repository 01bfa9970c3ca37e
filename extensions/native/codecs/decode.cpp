#include "decode.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "images.h"
#include "inflate.h"
#include "json.h"
#include "npy.h"
#include "oip.h"
#include "text.h"

namespace opserve::native {

namespace {

// As Request has them.
constexpr std::string_view kJsonLength = "inference-header-content-length";
constexpr std::string_view kEncoding = "content-encoding";

constexpr std::string_view kNpzMagic = "PK\x03\x04", kEmptyNpzMagic = "PK\x05\x06";

enum class Kind { kUnknown, kImage, kNpy, kNpz };

std::string_view media_type(const Part& part) {
    const std::string_view text = part.content_type;
    return strip(text.substr(0, text.find(';')));
}

// What a part is by its first bytes, or else by its declared media type.
Kind kind_of(const Part& part) {
    const std::string_view text = part.content.text();
    if (text.starts_with(kPngMagic) || text.starts_with(kJpegMagic)) return Kind::kImage;
    if (text.starts_with(kNpyMagic)) return Kind::kNpy;
    if (text.starts_with(kNpzMagic) || text.starts_with(kEmptyNpzMagic)) return Kind::kNpz;
    if (part.content_type.empty()) return Kind::kUnknown;
    const std::string_view declared = media_type(part);
    if (equals_ignoring_case(declared.substr(0, 6), "image/")) return Kind::kImage;
    if (equals_ignoring_case(declared, kNpyType)) return Kind::kNpy;
    return equals_ignoring_case(declared, kNpzType) ? Kind::kNpz : Kind::kUnknown;
}

bool may_be_json(std::string_view declared) {
    for (const std::string_view each : {"", "application/json", "text/plain", "application/octet-stream"}) {
        if (equals_ignoring_case(declared, each)) return true;
    }
    constexpr std::string_view kSuffix = "+json";
    return declared.size() >= kSuffix.size() &&
           equals_ignoring_case(declared.substr(declared.size() - kSuffix.size()), kSuffix);
}

bool looks_like_json(std::string_view text) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    text = text.substr(0, 64);
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    const size_t start = text.find_first_not_of(" \t\n\r\v\f");
    constexpr std::string_view kStarts = "[{\"-0123456789tfnNI";
    return start != std::string_view::npos && kStarts.find(text[start]) != std::string_view::npos;
}

// Bytes that reading a member allocates: none for a stored one, which is read in place.
uint64_t allocated(const NpzMember& member) {
    constexpr uint16_t kStored = 0;
    return member.method == kStored ? 0 : member.unpacked_bytes;
}

std::string expected(const Signature& specs) {
    std::string text = "this model takes ";
    for (const TensorSpec& spec : specs) {
        if (&spec != &specs.front()) text += ", ";
        text += "'" + spec.name + "' (" + spec.describe() + ")";
    }
    return text;
}

std::string_view describe(JsonKind kind) {
    switch (kind) {
        case JsonKind::kArray:
            return "an array";
        case JsonKind::kString:
            return "a string";
        case JsonKind::kBool:
            return "a boolean";
        case JsonKind::kNull:
            return "null";
        default:
            return "a number";
    }
}

// The values of a request by input, as they are found under their names.
template <typename Value>
class Values {
  public:
    explicit Values(const Signature& specs) : specs_(specs), values_(specs.size()) {}

    // Of several values with one name the last one counts.
    void add(std::string_view name, Value value) {
        for (size_t i = 0; i < specs_.size(); ++i) {
            if (specs_[i].name == name) {
                values_[i].emplace(std::move(value));
                return;
            }
        }
        if (!unknown_ || name < *unknown_) unknown_.emplace(name);
        const std::string_view start = strip_left(name).substr(0, 1);
        is_text_ = is_text_ || start == "{" || start == "[";
    }

    // Throws RequestError for a name that is not an input, or an input that is missing and not optional.
    // `form`: the names are those of parts.
    void check(bool form = false) const {
        if (form && is_text_) {
            // curl -d without a Content-Type: the server parsed the JSON as a form.
            throw RequestError("the body was sent as a form; add the header 'Content-Type: application/json'",
                               std::nullopt, 415);
        }
        for (size_t i = 0; i < specs_.size(); ++i) {
            const TensorSpec& spec = specs_[i];
            if (!values_[i] && !spec.optional) {
                throw RequestError("'" + spec.name + "' is missing; " + expected(specs_), spec.name);
            }
        }
        if (unknown_) {
            // A name that is too long is shortened in the message, and is not the error's field.
            const std::string quoted(first_characters(*unknown_, kMaxName));
            throw RequestError("'" + quoted + "' is not an input of this model; " + expected(specs_),
                               *unknown_);
        }
    }

    // The inputs that are there, in the order of the signature, as arrays that `decode(value, spec)` returns.
    template <typename Decode>
    Arrays decode_each(Decode&& decode) {
        Arrays inputs;
        inputs.reserve(specs_.size());
        for (size_t i = 0; i < specs_.size(); ++i) {
            if (values_[i]) inputs.push_back({specs_[i].name, decode(*values_[i], specs_[i])});
        }
        return inputs;
    }

  private:
    const Signature& specs_;
    std::vector<std::optional<Value>> values_;
    std::optional<std::string> unknown_;  // the first of the alphabet
    bool is_text_ = false;                // an unknown name is JSON
};

class Decoder {
  public:
    Decoder(const Request& request, const Signature& specs, const Limits& limits, const SharedMemory& memory)
        : request_(request), specs_(specs), limits_(limits), memory_(memory), budget_(limits) {}

    DecodedRequest decode() {
        const auto& parts = request_.parts;
        const auto is_body = [](const Part& part) { return part.name == kBody; };
        const auto is_named_body = [](const TensorSpec& spec) { return spec.name == kBody; };
        if (std::all_of(parts.begin(), parts.end(), is_body) &&
            std::none_of(specs_.begin(), specs_.end(), is_named_body)) {
            return decode_body(parts.back());
        }
        Values<const Part*> values(specs_);
        for (const Part& part : parts) values.add(part.name, &part);
        values.check(/*form=*/true);
        return answered(
            values.decode_each([&](const Part* part, const TensorSpec& spec) { return read(*part, spec); }));
    }

  private:
    DecodedRequest decode_body(const Part& body) {
        const std::string* encoding = request_.header(kEncoding);
        if (encoding == nullptr) return decode_content(body);
        Buffer unpacked = unpack_content(body.content, *encoding, limits_.max_bytes);
        if (unpacked.bytes.data() == body.content.bytes.data()) return decode_content(body);
        budget_.take_unpacked(unpacked.size());
        return decode_content({body.name, body.content_type, std::move(unpacked)});
    }

    DecodedRequest decode_content(const Part& body) {
        if (body.content.size() == 0) throw RequestError("the request's body is empty; " + expected(specs_));
        if (const std::string* length = request_.header(kJsonLength)) {
            const auto [text, binary] = split_body(body.content, *length);
            const JsonDocument document = parse(text);
            if (!is_infer_request(document.root(), {})) {
                throw RequestError(std::string(kJsonLengthHeader) +
                                   " is for an Open Inference Protocol request: {\"inputs\": […]}");
            }
            return decode_infer_request(document.root(), binary);
        }
        switch (kind_of(body)) {
            case Kind::kNpz:
                return decode_npz(body.content);
            case Kind::kUnknown:
                return decode_json(body);
            default:
                if (specs_.size() > 1) {
                    throw RequestError("send each input as a part of a multipart form, or all in an .npz; " +
                                       expected(specs_));
                }
                return alone(read(body, specs_[0]));
        }
    }

    DecodedRequest decode_npz(const Buffer& content) {
        const std::vector<NpzMember> members = list_npz(content, std::nullopt, limits_.max_bytes);
        Values<Array> values(specs_);
        for (const NpzMember& member : members) values.add(member.name, {});
        values.check();
        uint64_t unpacked = 0;
        for (const NpzMember& member : members) unpacked += allocated(member);
        budget_.take_unpacked(unpacked);
        for (const NpzMember& member : members)
            values.add(member.name, read_member(content, member, member.name));
        return answered(values.decode_each(
            [&](const Array& array, const TensorSpec& spec) { return take(array, spec); }));
    }

    DecodedRequest decode_json(const Part& body) {
        const std::string_view declared = media_type(body);
        if (!may_be_json(declared)) {
            throw RequestError(
                "a body of type '" + std::string(declared) +
                    "' is not accepted; send application/json, multipart/form-data, image/png, "
                    "image/jpeg, application/x-npy or application/x-npz",
                std::nullopt, 415);
        }
        const JsonDocument document = parse(body.content);
        const JsonValue root = document.root();
        if (is_infer_request(root, specs_)) return decode_infer_request(root, {});
        if (root.is(JsonKind::kObject)) {
            Values<JsonValue> values(specs_);
            root.for_each([&](std::string_view name, const JsonValue& value) { values.add(name, value); });
            values.check();
            return answered(values.decode_each(
                [&](const JsonValue& value, const TensorSpec& spec) { return take(value, spec); }));
        }
        if (specs_.size() == 1) return alone(take(root, specs_[0]));
        throw RequestError("expected a JSON object, got " + std::string(describe(root.kind())) + "; " +
                           expected(specs_));
    }

    DecodedRequest decode_infer_request(const JsonValue& document, const Buffer& binary) {
        try {
            // Checked before a tensor is read, so that there are no more of them than the model has inputs.
            const std::vector<std::string_view> names = input_names(document);
            Values<Array> values(specs_);
            for (const std::string_view name : names) values.add(name, {});
            values.check();
            for (NamedArray& each : read_tensors(document, binary, memory_)) {
                values.add(each.name, std::move(each.array));
            }
            auto asked = std::make_shared<const InferRequest>(read_infer_request(document, memory_));
            return answered(values.decode_each([&](const Array& array, const TensorSpec& spec) {
                return take(array, spec);
            }),
                            std::move(asked));
        } catch (RequestError& error) {
            error.open_inference = true;
            throw;
        }
    }

    // One part as an array for an input.
    Array read(const Part& part, const TensorSpec& spec) {
        const Buffer& content = part.content;
        switch (kind_of(part)) {
            case Kind::kImage:
                return convert(decode_image(content, spec, budget_), spec,
                               /*typed=*/false);  // its bytes are counted
            case Kind::kNpy:
                return take(read_npy(content, spec.name), spec);
            case Kind::kNpz: {
                const std::vector<NpzMember> members = list_npz(content, spec.name, limits_.max_bytes);
                if (members.size() != 1) {
                    throw RequestError("'" + spec.name + "' is an .npz file of " +
                                           std::to_string(members.size()) +
                                           " arrays; send one of a single array",
                                       spec.name);
                }
                budget_.take_unpacked(allocated(members[0]), spec.name);
                return take(read_member(content, members[0], spec.name), spec);
            }
            case Kind::kUnknown:
                break;
        }
        if (content.size() == 0) throw RequestError("'" + spec.name + "' is empty", spec.name);
        if (!looks_like_json(content.text())) {
            const std::string_view images = accepts_image(spec) ? "an image (PNG or JPEG), " : "";
            throw RequestError("'" + spec.name + "' is neither " + std::string(images) + ".npy nor JSON",
                               spec.name);
        }
        const JsonDocument document = JsonDocument::parse(content, spec.name, {spec}, limits_.max_json_bytes);
        return take(document.root(), spec);
    }

    JsonDocument parse(const Buffer& text) const {
        return JsonDocument::parse(text, std::nullopt, specs_, limits_.max_json_bytes);
    }

    // Numbers whose sender chose their dtype: what they take in the model's is counted before it is made.
    Array take(const Array& array, const TensorSpec& spec) {
        budget_.take_bytes(static_cast<uint64_t>(array.size()) * item_size(spec.dtype), spec.name);
        // The other sizes may be too large for wider numbers.
        if (array.size() == 0) reshape(Array::empty(spec.dtype, {0}), array.shape, spec.name);
        return convert(array, spec, /*typed=*/true);
    }

    // Numbers of JSON, whose text bounds what they take.
    Array take(const JsonValue& value, const TensorSpec& spec) {
        Array array = convert(value, spec);
        budget_.take_bytes(array.bytes(), spec.name);
        return array;
    }

    DecodedRequest alone(Array array) {
        Arrays inputs;
        inputs.push_back({specs_[0].name, std::move(array)});
        return answered(std::move(inputs));
    }

    DecodedRequest answered(Arrays inputs, std::shared_ptr<const InferRequest> asked = nullptr) const {
        const std::string* accept = request_.header("accept");
        const std::string_view accepted = accept == nullptr ? std::string_view() : *accept;
        return {std::move(inputs), choose_format(accepted, std::move(asked))};
    }

    const Request& request_;
    const Signature& specs_;
    const Limits& limits_;
    const SharedMemory& memory_;
    Budget budget_;
};

}  // namespace

DecodedRequest decode_request(const Request& request, const Signature& specs, const Limits& limits,
                              const SharedMemory& memory) {
    if (request.parts.empty()) {
        // curl -d without a Content-Type arrives as a form without any part.
        throw RequestError(
            "the request holds no input (JSON needs the header 'Content-Type: application/json'); " +
            expected(specs));
    }
    return Decoder(request, specs, limits, memory).decode();
}

}  // namespace opserve::native
