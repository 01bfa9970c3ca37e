// Divides a workspace into aligned parts. The same sequence of calls adds up the size the first time and
// hands out pointers the second time, so the two cannot disagree.
#pragma once

#include <cstdint>

#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve {

class Workspace {
  public:
    static constexpr int64_t kAlignment = 64;

    // With a null base, it only adds up.
    explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}

    template <class T>
    T* take(int64_t elements) {
        int64_t bytes = 0;
        if (elements < 0 || !checked_multiply(elements, sizeof(T), &bytes) ||
            !checked_add(bytes, kAlignment - 1, &bytes)) {
            overflow_ = true;
            return nullptr;
        }
        bytes -= bytes % kAlignment;
        T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + size_);
        overflow_ = overflow_ || !checked_add(size_, bytes, &size_);
        return part;
    }

    // Takes a matrix whose dtype is known only at run time; null if it is not wanted.
    void* take_matrix(bool wanted, int64_t rows, int64_t columns, int64_t element_size) {
        if (!wanted) return nullptr;
        int64_t bytes = 0;
        const bool fits =
            checked_multiply(rows, columns, &bytes) && checked_multiply(bytes, element_size, &bytes);
        return take<char>(fits ? bytes : -1);
    }

    // Sets `bytes` to the size of all parts together.
    Status size(const char* op, int64_t* bytes) const {
        if (overflow_) {
            return Status::invalid_argument(
                "opserve::%s: the workspace must fit in 2^63 bytes, got sizes that do not", op);
        }
        *bytes = size_;
        return {};
    }

  private:
    char* base_;
    int64_t size_ = 0;
    bool overflow_ = false;
};

}  // namespace opserve
