// Cuts a workspace into aligned parts. Walks the same sequence of parts once to add up the size and once to
// hand out pointers, so the two cannot disagree.
#pragma once

#include <cstdint>

#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::cpu {

class Workspace {
  public:
    static constexpr int64_t kAlignment = 64;

    // With null, only adds up.
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

    // How many bytes the parts take together.
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

}  // namespace opserve::cpu
