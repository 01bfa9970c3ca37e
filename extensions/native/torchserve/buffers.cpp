#include "buffers.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

namespace opserve::native {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSharedBlock = size_t{1} << 16;
constexpr size_t kShares = size_t{1} << 13;  // a body of at most this size
// What is kept for later batches.
constexpr size_t kMaxKept = size_t{32} << 20;
constexpr size_t kMaxKeptBlocks = 64;
// A block may be this much larger than what it is used for.
constexpr size_t kWaste = 4;

// Few sizes, so that a block fits later bodies too: at most an eighth more than needed.
size_t rounded(size_t length) {
    const size_t step = std::max(kAlignment, std::bit_floor(length) / 8);
    return (length + step - 1) / step * step;
}

}  // namespace

struct BufferPool::Block {
    explicit Block(size_t wanted)
        : size(wanted), bytes(static_cast<std::byte*>(std::aligned_alloc(kAlignment, wanted))) {
        if (bytes == nullptr) throw std::bad_alloc();
    }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { std::free(bytes); }

    size_t size;
    std::byte* bytes;
};

BufferPool::Held BufferPool::find(size_t length) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
        const size_t size = (*it)->size;
        if (size >= length && size / kWaste <= length && (best == free_.end() || size < (*best)->size))
            best = it;
    }
    if (best == free_.end()) return std::make_shared<Block>(rounded(length));
    Held found = std::move(*best);
    free_.erase(best);
    return found;
}

Buffer BufferPool::take(size_t length) {
    const size_t needed = length + Part::kPadding;
    try {
        if (length > kShares) {
            const Held block = find(needed);
            taken_.push_back(block);
            // What is read beyond the end need not be defined, but the checkers of memory want it to be.
            std::memset(block->bytes + length, 0, Part::kPadding);
            return {{block->bytes, length}, block};
        }
        if (!shared_ || kSharedBlock - shared_used_ < needed) {
            shared_ = find(kSharedBlock);
            taken_.push_back(shared_);
            shared_used_ = 0;
        }
    } catch (const std::bad_alloc&) {
        return {};
    }
    std::byte* begin = shared_->bytes + shared_used_;
    shared_used_ = std::min(kSharedBlock, shared_used_ + rounded(needed));
    std::memset(begin + length, 0, Part::kPadding);
    return {{begin, length}, shared_};
}

void BufferPool::recycle() {
    shared_.reset();
    size_t kept = 0;
    for (const Held& block : free_) kept += block->size;
    size_t held = 0;
    for (Held& block : taken_) {
        if (block.use_count() > 1) {
            taken_[held++] = std::move(block);
            continue;
        }
        // Another thread may have been the last to let go of it.
        std::atomic_thread_fence(std::memory_order_acquire);
        if (block->size > kMaxKept) continue;
        // The oldest make way.
        while (free_.size() >= kMaxKeptBlocks || kept + block->size > kMaxKept) {
            kept -= free_.front()->size;
            free_.erase(free_.begin());
        }
        kept += block->size;
        free_.push_back(std::move(block));
    }
    taken_.resize(held);
}

}  // namespace opserve::native
