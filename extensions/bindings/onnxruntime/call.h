// One run of one node: its inputs, its output, and room for intermediate results.
#pragma once

#include <cstdint>

#include "api.h"

namespace opserve::ort_binding {

// The runtime hands out sizes by copy, so they are kept beside the argument that points to them.
struct Input {
    static constexpr size_t kMaxDim = 64;

    explicit operator bool() const { return present; }
    // For the checks, to which an input that was left out is null.
    const TensorArg* optional() const { return present ? &arg : nullptr; }
    // Of a dimension, in elements: the runtime's tensors are contiguous.
    int64_t stride(int64_t dim) const {
        int64_t stride = 1;
        for (int64_t i = dim + 1; i < arg.dim; ++i) stride *= sizes[i];
        return stride;
    }

    bool present = false;
    TensorArg arg;
    const void* data = nullptr;
    int64_t sizes[kMaxDim];
};

class Call {
  public:
    Call(const OrtApi& api, const char* op, OrtAllocator* allocator, size_t input_count,
         DeviceType device_type, OrtKernelContext* context)
        : api_(api),
          op_(op),
          allocator_(allocator),
          context_(context),
          input_count_(input_count),
          device_type_(device_type) {}

    const OrtApi& api() const { return api_; }
    const char* op() const { return op_; }
    OrtKernelContext* context() const { return context_; }
    OrtAllocator* allocator() const { return allocator_; }

    OrtStatus* status(const Status& status) const { return to_ort(api_, status); }
    OrtStatus* input(size_t index, Input* input) const;
    OrtStatus* output(const int64_t* sizes, int64_t dim, void** data) const;

  private:
    const OrtApi& api_;
    const char* op_;
    OrtAllocator* allocator_;
    OrtKernelContext* context_;
    size_t input_count_;
    DeviceType device_type_;
};

inline constexpr int64_t kScratchAlignment = 64;

// From the runtime's allocator, or null: it throws where it has no memory, through an interface of C, which
// this keeps from the frames around it.
void* allocate(OrtAllocator* allocator, size_t bytes) noexcept;

// The first aligned byte of a block that has kScratchAlignment - 1 bytes to spare.
void* align_scratch(void* block);

// A little is found on the stack. What is not is memory from the runtime's own allocator, until the end of
// the scope.
class HostScratch {
  public:
    explicit HostScratch(const Call& call) : call_(call) {}
    HostScratch(const HostScratch&) = delete;
    HostScratch& operator=(const HostScratch&) = delete;
    ~HostScratch();

    OrtStatus* allocate(int64_t bytes, void** data);

  private:
    static constexpr int64_t kInline = 16384;
    alignas(kScratchAlignment) char inline_[kInline];
    const Call& call_;
    void* block_ = nullptr;
};

}  // namespace opserve::ort_binding
