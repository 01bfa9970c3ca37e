// Memory for the bodies of requests, which is used again for later ones.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "../codecs/request.h"

namespace opserve::native {

// For one thread. Whoever holds a buffer keeps its memory; what nobody holds any more is used again after
// `recycle`.
class BufferPool {
  public:
    // Returns a buffer that begins at a multiple of 64 bytes, with Part::kPadding more bytes after its end;
    // or one without an owner, if that much memory cannot be had.
    Buffer take(size_t length);

    // Call when the buffers of a batch are no longer needed. Of the memory that nobody holds a bounded amount
    // is kept.
    void recycle();

  private:
    struct Block;
    using Held = std::shared_ptr<Block>;

    Held find(size_t length);

    std::vector<Held> taken_, free_;
    // Small bodies share one block.
    Held shared_;
    size_t shared_used_ = 0;
};

}  // namespace opserve::native
