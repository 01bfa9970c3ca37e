// The attributes of a node. An absent one leaves the value unchanged; one of another type is an error.
#pragma once

#include <cstdint>

#include "api.h"

namespace opserve::ort_binding {

class Attributes {
  public:
    Attributes(const OrtApi& api, const OrtKernelInfo* info, OrtAllocator* allocator)
        : api_(api), info_(info), allocator_(allocator) {}

    // Reads a FLOAT, which is float32 in ONNX. A second attribute, a TENSOR of one float64, is for numbers
    // that float32 cannot hold; if present, it takes precedence.
    OrtStatus* number(const char* op, const char* name, const char* exact_name, double* value) const;
    // Reads INTS; `count` is set to their number, and the first `capacity` of them are read.
    OrtStatus* integers(const char* op, const char* name, int64_t* values, int64_t capacity,
                        int64_t* count) const;

  private:
    static constexpr int64_t kMaxIntegers = 64;

    bool exists(const char* name) const;
    OrtStatus* wrong(const char* op, const char* name, const char* expected) const;

    const OrtApi& api_;
    const OrtKernelInfo* info_;
    OrtAllocator* allocator_;
};

}  // namespace opserve::ort_binding
