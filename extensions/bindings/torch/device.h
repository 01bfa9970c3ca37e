// Where operators run. They are written once over a `Device`, which says how PyTorch reaches the device,
// where intermediate results are stored, and why PyTorch failed.
#pragma once

#include <cstdint>

#include "opserve/cuda.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"
#include "tensor.h"

namespace opserve::torch_binding {

// Memory for intermediate results: on the stack if small, else a tensor, so that PyTorch's allocator owns it.
class HostWorkspace {
  public:
    HostWorkspace(int64_t bytes, const Tensor& like);
    void* get() const { return pointer_; }

  private:
    static constexpr int64_t kInline = 16384;
    alignas(64) char inline_[kInline];
    Tensor tensor_;
    void* pointer_;
};

struct Cpu {
    static constexpr DeviceType kDeviceType = DeviceType::kCpu;

    using Workspace = HostWorkspace;

    // One call, on PyTorch's threads.
    class Execution {
      public:
        explicit Execution(const Tensor&) {}
        ParallelFor get() const;
    };

    // Returns why PyTorch failed, as far as the device can tell; success if that is not known.
    static Status find_cause(const char* op, const RuntimeFailure& failure);
};

// Memory for intermediate results on the device of a tensor.
class DeviceWorkspace {
  public:
    DeviceWorkspace(int64_t bytes, const Tensor& like);
    void* get() const { return bytes_ == 0 ? nullptr : tensor_.mutable_data(); }

  private:
    int64_t bytes_;
    Tensor tensor_;
};

// Makes a device current during its lifetime, and finds PyTorch's current stream there.
class DeviceGuard {
  public:
    explicit DeviceGuard(int32_t device_index);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

    cuda::Stream stream() const { return stream_; }

  private:
    void* guard_ = nullptr;
    cuda::Stream stream_ = nullptr;
};

struct Cuda {
    static constexpr DeviceType kDeviceType = DeviceType::kCuda;

    using Workspace = DeviceWorkspace;

    // One call, on the device of a tensor. Dense products are PyTorch's own operators. They write into the
    // memory they are given, and autocast runs none of them in another dtype.
    class Execution {
      public:
        explicit Execution(const Tensor& like);
        cuda::Execution get() const { return {guard_.stream(), {&multiply, const_cast<Execution*>(this)}}; }

      private:
        static Status multiply(void* self, const char* op, const cuda::ProductParams& params,
                               cuda::Stream stream);

        AtenTensorHandle view(const void* data, int64_t dim, const int64_t* sizes,
                              const int64_t* strides) const;
        StableIValue wrap(const cuda::Matrix& matrix) const;
        AtenTensorHandle vector(const void* data, int64_t size) const;

        int32_t dtype_, device_type_, device_index_;
        DeviceGuard guard_;
    };

    static Status find_cause(const char* op, const RuntimeFailure& failure);
};

}  // namespace opserve::torch_binding
