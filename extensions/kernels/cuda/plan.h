// How an operator that is a chain of products divides its workspace.
#pragma once

#include <cstdint>

#include "../cpu/workspace.h"
#include "opserve/cuda.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::cuda {

// A matrix with adjacent elements in each row.
inline Matrix matrix(const void* data, int64_t rows, int64_t columns, int64_t stride) {
    return {data, rows, columns, stride, 1};
}
inline Matrix matrix(const void* data, int64_t rows, int64_t columns) {
    return matrix(data, rows, columns, columns);
}

// Parts of several dtypes. One that is not wanted takes no room.
class Rooms {
  public:
    explicit Rooms(void* base) : workspace_(base) {}

    void* take(bool wanted, int64_t rows, int64_t columns, int64_t size) {
        if (!wanted) return nullptr;
        int64_t bytes = 0;
        const bool fits = checked_multiply(rows, columns, &bytes) && checked_multiply(bytes, size, &bytes);
        return workspace_.take<char>(fits ? bytes : -1);
    }

    Status size(const char* op, int64_t* bytes) const { return workspace_.size(op, bytes); }

  private:
    cpu::Workspace workspace_;
};

}  // namespace opserve::cuda
