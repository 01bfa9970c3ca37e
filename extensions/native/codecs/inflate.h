// Unpacks deflate streams within bounds on bytes and time, as handlers/codecs/inflate.py does, with ISA-L.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "request.h"

namespace opserve::native {

enum class Wrapper { kRaw, kZlib, kGzip };

// Processor time of a thread. A stream of millions of blocks, each with tables that take longer to build than
// its bytes take to write, needs three to ten times as long as others; random floats of the largest accepted
// size take half a second.
inline constexpr double kMaxUnpackSeconds = 2.0;

// The bytes are not such a stream, or do not match its checksum.
class DamagedStream : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};
// The stream takes longer than kMaxUnpackSeconds to unpack.
class TooSlow : public std::exception {};

// A stream in pieces, which must outlive it, that is unpacked piece by piece. Stay on one thread: its time
// counts.
class InflateStream {
  public:
    InflateStream(std::vector<std::span<const std::byte>> pieces, Wrapper wrapper);
    ~InflateStream();
    // Whether the end of the stream has been read, and its checksum with it; whether bytes follow it.
    bool ended() const;
    bool has_more() const;
    // Unpacks the next bytes, at least one, to the beginning of `out`; returns how many, or 0 where the
    // stream ends or is cut off. What is wrong with the stream is found out up to some tens of kilobytes
    // before it is reached, and how far before depends on the sizes that are asked for. Throws DamagedStream,
    // TooSlow.
    size_t read_some(std::span<std::byte> out);
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
// Returns what `data` unpacks to, all of it or the first `max_bytes` and at least one more, and whether it is
// one whole stream with nothing after it. Throws DamagedStream, TooSlow.
Inflated inflate(std::span<const std::byte> data, Wrapper wrapper, uint64_t max_bytes);

// Returns the body without its Content-Encoding, as handlers/codecs/content_encoding.py does; the same buffer
// if it has none. Throws RequestError.
Buffer unpack_content(const Buffer& content, std::string_view encoding, int64_t max_bytes);

}  // namespace opserve::native
