// Unpacks deflate streams within bounds on bytes and time, as handlers/codecs/inflate.py does, with ISA-L.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "request.h"

namespace opserve::native {

enum class Wrapper { kRaw, kZlib, kGzip };

// The bytes are not such a stream, or do not match its checksum.
class DamagedStream : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};
// The stream takes longer than MAX_SECONDS of this thread's processor time to unpack.
class TooSlow : public std::exception {};

// A stream in pieces that is unpacked piece by piece.
class InflateStream {
  public:
    InflateStream(std::vector<std::span<const std::byte>> pieces, Wrapper wrapper);
    ~InflateStream();
    // Whether the end of the stream has been read, and its checksum with it; whether bytes follow it.
    bool ended() const;
    bool has_more() const;
    // Fills `out` from its beginning; returns how many bytes, fewer only where the stream ends or is cut off.
    // Throws DamagedStream, TooSlow.
    size_t read(std::span<std::byte> out);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

struct Inflated {
    Buffer bytes;  // followed by Part::kPadding bytes that may be read
    bool whole = false;
};
// Returns what `data` unpacks to, all of it or the first `max_bytes` and at least one more, and whether it is one whole
// stream with nothing after it. Throws DamagedStream, TooSlow.
Inflated inflate(std::span<const std::byte> data, Wrapper wrapper, uint64_t max_bytes);

// Returns the body without its Content-Encoding, as handlers/codecs/content_encoding.py does; the same buffer if it has
// none. Throws RequestError.
Buffer unpack_content(const Buffer& content, std::string_view encoding, int64_t max_bytes);

}  // namespace opserve::native
