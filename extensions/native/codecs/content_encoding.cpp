#include <string>
#include <string_view>

#include "inflate.h"
#include "text.h"

namespace opserve::native {
namespace {

// The wrapper of a deflate body (RFC 9110, 8.4.1.2): zlib's if it begins with zlib's header, which encoders
// of raw streams avoid.
Wrapper find_deflate_wrapper(std::string_view content) {
    if (content.size() < 2) return Wrapper::kRaw;
    const auto first = static_cast<unsigned char>(content[0]),
               second = static_cast<unsigned char>(content[1]);
    const bool is_zlib = (first & 15) == 8 && (first << 8 | second) % 31 == 0;
    return is_zlib ? Wrapper::kZlib : Wrapper::kRaw;
}

bool is_gzip(std::string_view coding) {
    return equals_ignoring_case(coding, "gzip") || equals_ignoring_case(coding, "x-gzip");
}
bool is_deflate(std::string_view coding) { return equals_ignoring_case(coding, "deflate"); }

}  // namespace

Buffer unpack_content(const Buffer& content, std::string_view encoding, int64_t max_bytes) {
    std::string_view coding;  // the only one other than identity
    bool several = false;
    for (size_t at = 0; at <= encoding.size();) {
        const size_t comma = std::min(encoding.find(',', at), encoding.size());
        const std::string_view each = strip(encoding.substr(at, comma - at));
        if (!each.empty() && !equals_ignoring_case(each, "identity")) {
            several = several || !coding.empty();
            coding = each;
        }
        at = comma + 1;
    }
    if (coding.empty()) return content;
    if (several || !(is_gzip(coding) || is_deflate(coding))) {
        throw RequestError("'Content-Encoding: " + std::string(first_characters(encoding, 80)) +
                               "' is not accepted; send gzip or deflate, or the body as it is",
                           std::nullopt, 415);
    }
    const std::string name = is_gzip(coding) ? "gzip" : "deflate";
    const Wrapper wrapper = is_gzip(coding) ? Wrapper::kGzip : find_deflate_wrapper(content.text());
    Inflated unpacked;
    try {
        unpacked = inflate(content.bytes, wrapper, static_cast<uint64_t>(max_bytes));
    } catch (const DamagedStream& error) {
        throw RequestError("the request's body cannot be unpacked as " + name + ": " + error.what());
    } catch (const TooSlow&) {
        throw RequestError("the request's body takes too long to unpack as " + name, std::nullopt, 413);
    }
    if (unpacked.bytes.size() > static_cast<uint64_t>(max_bytes)) {
        throw RequestError("the request's body unpacks to more than " + std::to_string(max_bytes) + " bytes",
                           std::nullopt, 413);
    }
    if (!unpacked.whole) {
        throw RequestError("the request's body is truncated " + name + ", or has bytes after its end");
    }
    return std::move(unpacked.bytes);
}

}  // namespace opserve::native
