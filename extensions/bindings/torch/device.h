// The device and the stream a call runs on, and what PyTorch offers there.
#pragma once

#include <cstdint>

#include "gradient.h"
#include "opserve/cuda.h"
#include "tensor.h"

namespace opserve::torch_binding {

// While it lives, the device of a tensor is current.
class Device {
  public:
    explicit Device(const TensorArg& tensor);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    // PyTorch's current one.
    cuda::Stream stream() const { return stream_; }

  private:
    void* guard_ = nullptr;
    cuda::Stream stream_ = nullptr;
};

// Dense products by PyTorch's own operators, for matrices on the device of a tensor. They write into the
// memory they are given, and none of them is one that autocast would run in another dtype.
class TorchProduct {
  public:
    explicit TorchProduct(const Tensor& like);
    operator cuda::Product() { return {&run, this}; }

  private:
    static Status run(void* context, const char* op, const cuda::ProductParams& params, cuda::Stream stream);

    AtenTensorHandle view(const void* data, int64_t dim, const int64_t* sizes, const int64_t* strides) const;
    StableIValue wrap(const cuda::Matrix& matrix) const;
    AtenTensorHandle vector(const void* data, int64_t size) const;

    int32_t dtype_, device_type_, device_index_;
};

// Intermediate results in the memory of a tensor's device.
class DeviceWorkspace {
  public:
    DeviceWorkspace(int64_t bytes, const Tensor& like);
    void* get() const { return bytes_ == 0 ? nullptr : tensor_.mutable_data(); }

  private:
    int64_t bytes_;
    Tensor tensor_;
};

}  // namespace opserve::torch_binding
