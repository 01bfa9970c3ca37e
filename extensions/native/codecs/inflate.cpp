#include "inflate.h"

#include <isa-l.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

namespace opserve::native {
namespace {

// Bytes read and written between two looks at the clock.
constexpr size_t kPiece = size_t{1} << 20;
constexpr uint64_t kOutput = uint64_t{1} << 24;
// The decoder looks ahead as far as its own buffer goes, so which faults it has seen by the time it is
// stopped depends on how much room it was given, call by call. This is what isal_zlib begins with; it doubles
// it from there.
constexpr size_t kFirstRoom = size_t{1} << 14;

using Bytes = std::span<const std::byte>;

double thread_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// As isal_zlib has them.
std::string describe(int error) {
    const char* reason = "Unknown error";
    switch (error) {
        case ISAL_END_INPUT:
            reason = "End of input reached";
            break;
        case ISAL_NAME_OVERFLOW:
            reason = "End of gzip name buffer reached";
            break;
        case ISAL_COMMENT_OVERFLOW:
            reason = "End of gzip comment buffer reached";
            break;
        case ISAL_EXTRA_OVERFLOW:
            reason = "End of extra buffer reached";
            break;
        case ISAL_NEED_DICT:
            reason = "Dictionary needed to continue";
            break;
        case ISAL_INVALID_BLOCK:
            reason = "Invalid deflate block found";
            break;
        case ISAL_INVALID_SYMBOL:
            reason = "Invalid deflate symbol found";
            break;
        case ISAL_INVALID_LOOKBACK:
            reason = "Invalid lookback distance found";
            break;
        case ISAL_INVALID_WRAPPER:
            reason = "Invalid gzip/zlib wrapper found";
            break;
        case ISAL_UNSUPPORTED_METHOD:
            reason = "Gzip/zlib wrapper specifies unsupported compress method";
            break;
        case ISAL_INCORRECT_CHECKSUM:
            reason = "Incorrect checksum found";
            break;
    }
    return "Error " + std::to_string(error) + " " + reason;
}

// A decoder is large, and requests come one after the other: each thread keeps one that is not in use.
thread_local std::unique_ptr<inflate_state> spare;

class Unpacker {
  public:
    explicit Unpacker(Wrapper wrapper)
        : state_(spare ? std::move(spare) : std::make_unique_for_overwrite<inflate_state>()) {
        isal_inflate_init(state_.get());
        state_->crc_flag = wrapper == Wrapper::kGzip   ? ISAL_GZIP
                           : wrapper == Wrapper::kZlib ? ISAL_ZLIB
                                                       : ISAL_DEFLATE;
        state_->hist_bits = ISAL_DEF_MAX_HIST_BITS;
        state_->next_in = nullptr;
        state_->avail_in = 0;
    }
    Unpacker(const Unpacker&) = delete;
    Unpacker& operator=(const Unpacker&) = delete;
    ~Unpacker() { spare = std::move(state_); }

    bool ended() const { return state_->block_state == ISAL_BLOCK_FINISH; }
    // Whether some of the input given to `unpack` comes after the end. Its last bytes may still be in the
    // decoder.
    bool has_more() const { return ended() && (state_->avail_in > 0 || state_->read_in_length >= 8); }
    // What `unpack` has left of its input.
    Bytes rest() const { return {reinterpret_cast<const std::byte*>(state_->next_in), state_->avail_in}; }

    // Unpacks until `input`, of at most kPiece bytes, is used up or `most` bytes (not 0) are written, to the
    // beginning of what room(size) returns: at least `size` bytes, in which those that were written so far
    // are kept.
    template <typename Room>
    size_t unpack(Bytes input, size_t most, Room&& room) {
        // The decoder does not write there.
        state_->next_in = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(input.data()));
        state_->avail_in = static_cast<uint32_t>(input.size());
        size_t size = std::min(kFirstRoom, most), done = 0;
        for (;;) {
            state_->next_out = reinterpret_cast<uint8_t*>(room(size)) + done;
            state_->avail_out = static_cast<uint32_t>(size - done);
            const int error = isal_inflate(state_.get());
            if (error != ISAL_DECOMP_OK) throw DamagedStream(describe(error));
            done = size - state_->avail_out;
            if (done < size || size == most) return done;
            size = size <= most / 2 ? size * 2 : most;
        }
    }

  private:
    std::unique_ptr<inflate_state> state_;
};

// Memory that grows, and that is never larger than a few times the bytes it is for.
class Growing {
  public:
    Growing() = default;
    Growing(const Growing&) = delete;
    Growing& operator=(const Growing&) = delete;
    ~Growing() { std::free(data_); }

    // Returns at least `size` bytes, which keep their values; `expected` if no more than that is likely to be
    // needed.
    std::byte* reserve(size_t size, size_t expected) {
        if (data_ == nullptr || size > capacity_) {
            const size_t wanted = std::max({size, capacity_ * 2, expected});
            void* moved = std::realloc(data_, wanted + Part::kPadding);
            if (moved == nullptr) throw std::bad_alloc();
            data_ = moved;
            capacity_ = wanted;
        }
        return static_cast<std::byte*>(data_);
    }

    // Hands the first `size` bytes over.
    Buffer take(size_t size) {
        std::byte* data = reserve(size, size);
        std::memset(data + size, 0, Part::kPadding);
        std::shared_ptr<void> owner(data_, std::free);
        data_ = nullptr;
        return {{data, size}, std::move(owner)};
    }

  private:
    void* data_ = nullptr;
    size_t capacity_ = 0;
};

// A stream in pieces.
class Stream {
  public:
    Stream(std::vector<Bytes> pieces, Wrapper wrapper) : unpacker_(wrapper), pieces_(std::move(pieces)) {}

    bool ended() const { return unpacker_.ended(); }
    bool has_more() const {
        const auto is_empty = [](Bytes piece) { return piece.empty(); };
        return unpacker_.has_more() || !std::all_of(pieces_.begin(), pieces_.end(), is_empty);
    }

    // Unpacks the next 1 to `most` bytes, or none where the stream ends or is cut off. `room` is that of
    // Unpacker::unpack.
    template <typename Room>
    size_t read(size_t most, Room&& room) {
        while (!unpacker_.ended()) {
            const Bytes piece = rest_.empty() ? next_piece() : rest_;
            if (piece.empty() && !is_full_) break;
            if (thread_seconds() > until_) throw TooSlow();
            const size_t count = unpacker_.unpack(piece, most, room);
            rest_ = unpacker_.ended() ? Bytes() : unpacker_.rest();
            is_full_ = count == most;
            if (count > 0) return count;
        }
        return 0;
    }

  private:
    Bytes next_piece() {
        while (next_ < pieces_.size() && pieces_[next_].empty()) ++next_;
        if (next_ == pieces_.size()) return {};
        const Bytes piece = pieces_[next_].first(std::min(kPiece, pieces_[next_].size()));
        pieces_[next_] = pieces_[next_].subspan(piece.size());
        return piece;
    }

    Unpacker unpacker_;
    std::vector<Bytes> pieces_;  // what was not read of each
    size_t next_ = 0;
    Bytes rest_;  // of a piece
    bool is_full_ =
        false;  // the last call wrote all that it could, so there may be more without another piece
    double until_ = thread_seconds() + kMaxUnpackSeconds;
};

}  // namespace

struct InflateStream::State {
    Stream stream;
};

InflateStream::InflateStream(std::vector<Bytes> pieces, Wrapper wrapper)
    : state_(new State{Stream(std::move(pieces), wrapper)}) {}
InflateStream::~InflateStream() = default;

bool InflateStream::ended() const { return state_->stream.ended(); }
bool InflateStream::has_more() const { return state_->stream.has_more(); }

size_t InflateStream::read_some(std::span<std::byte> out) {
    if (out.empty()) return 0;
    return state_->stream.read(std::min<size_t>(out.size(), kOutput), [out](size_t) { return out.data(); });
}

size_t InflateStream::read(std::span<std::byte> out) {
    size_t done = 0, count = 1;
    for (; done < out.size() && count > 0; done += count) count = read_some(out.subspan(done));
    return done;
}

Inflated inflate(Bytes data, Wrapper wrapper, uint64_t max_bytes) {
    Growing unpacked;
    const auto most = static_cast<size_t>(max_bytes) + 1;
    const size_t expected = std::min(most, 4 * data.size());
    if (data.size() <= kPiece && max_bytes < kOutput) {  // too short to need the clock
        Unpacker unpacker(wrapper);
        const size_t count =
            unpacker.unpack(data, most, [&](size_t size) { return unpacked.reserve(size, expected); });
        return {unpacked.take(count), unpacker.ended() && !unpacker.has_more()};
    }
    Stream stream({data}, wrapper);
    size_t done = 0;
    while (done < most) {
        const auto room = [&](size_t size) { return unpacked.reserve(done + size, expected) + done; };
        const size_t count = stream.read(std::min<size_t>(kOutput, most - done), room);
        if (count == 0) break;
        done += count;
    }
    return {unpacked.take(done), stream.ended() && !stream.has_more()};
}

}  // namespace opserve::native
