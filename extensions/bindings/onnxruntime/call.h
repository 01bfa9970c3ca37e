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
    Call(const OrtApi& api, OrtAllocator* allocator, size_t input_count, DeviceType device_type,
         OrtKernelContext* context)
        : api_(api),
          allocator_(allocator),
          context_(context),
          input_count_(input_count),
          device_type_(device_type) {}

    const OrtApi& api() const { return api_; }
    OrtKernelContext* context() const { return context_; }
    OrtAllocator* allocator() const { return allocator_; }

    OrtStatus* status(const Status& status) const { return to_ort(api_, status); }
    OrtStatus* input(size_t index, Input* input) const;
    OrtStatus* output(const int64_t* sizes, int64_t dim, void** data) const;

  private:
    const OrtApi& api_;
    OrtAllocator* allocator_;
    OrtKernelContext* context_;
    size_t input_count_;
    DeviceType device_type_;
};

inline constexpr int64_t kScratchAlignment = 64;

// `data` is the first aligned byte of a block that has kScratchAlignment - 1 bytes to spare, and is null
// where there was no memory for it.
OrtStatus* align_scratch(const OrtApi& api, void* block, void** data);

// Bytes of the device's memory from the runtime's own allocator, aligned to 64, until the end of the scope.
class DeviceScratch {
  public:
    explicit DeviceScratch(const Call& call) : call_(call) {}
    DeviceScratch(const DeviceScratch&) = delete;
    DeviceScratch& operator=(const DeviceScratch&) = delete;
    ~DeviceScratch();

    OrtStatus* allocate(int64_t bytes, void** data);

  private:
    const Call& call_;
    void* block_ = nullptr;
};

// The same for the CPU, where a little is found on the stack.
class HostScratch {
  public:
    explicit HostScratch(const Call& call) : scratch_(call) {}

    OrtStatus* allocate(int64_t bytes, void** data) {
        if (bytes > kInline) return scratch_.allocate(bytes, data);
        *data = inline_;
        return nullptr;
    }

  private:
    static constexpr int64_t kInline = 16384;
    alignas(64) char inline_[kInline];
    DeviceScratch scratch_;
};

}  // namespace opserve::ort_binding
