// One run of one node: its inputs, its outputs, and memory for intermediate results.
#pragma once

#include <cstdint>

#include "api.h"

namespace opserve::ort_binding {

// An input as an operator declares it.
struct InputSpec {
    const char* name;
    bool optional = false;
};

// The runtime returns sizes by copy, so they are stored next to the argument that points to them.
struct Input {
    static constexpr size_t kMaxDim = 64;

    explicit operator bool() const { return present; }
    // For the checks, which take null for an input that was left out.
    const TensorArg* optional() const { return present ? &arg : nullptr; }
    // The stride of a dimension, in elements: the runtime's tensors are contiguous.
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

class KernelCall {
  public:
    KernelCall(const OrtApi& api, const char* op, OrtAllocator* allocator, size_t input_count,
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
    // Reads all inputs, in order.
    template <class... Inputs>
    OrtStatus* inputs(Inputs*... inputs) const {
        OrtStatus* status = nullptr;
        size_t index = 0;
        ((status = status != nullptr ? status : input(index++, inputs)), ...);
        return status;
    }
    OrtStatus* output(size_t index, const int64_t* sizes, int64_t dim, void** data) const;

  private:
    OrtStatus* input(size_t index, Input* input) const;

    const OrtApi& api_;
    const char* op_;
    OrtAllocator* allocator_;
    OrtKernelContext* context_;
    size_t input_count_;
    DeviceType device_type_;
};

inline constexpr int64_t kWorkspaceAlignment = 64;

// Allocates by the runtime's allocator; null on failure. The allocator throws through a C interface when
// memory runs out, and the exception is caught here.
void* allocate(OrtAllocator* allocator, size_t bytes) noexcept;

// Returns the first aligned byte of a block that has kWorkspaceAlignment - 1 bytes to spare.
void* align_workspace(void* block);

// Memory for intermediate results: on the stack if small, else from the runtime's allocator, until the end of
// the scope.
class HostWorkspace {
  public:
    explicit HostWorkspace(const KernelCall& call) : call_(call) {}
    HostWorkspace(const HostWorkspace&) = delete;
    HostWorkspace& operator=(const HostWorkspace&) = delete;
    ~HostWorkspace();

    OrtStatus* allocate(int64_t bytes, void** data);

  private:
    static constexpr int64_t kInline = 16384;
    alignas(kWorkspaceAlignment) char inline_[kInline];
    const KernelCall& call_;
    void* block_ = nullptr;
};

}  // namespace opserve::ort_binding
