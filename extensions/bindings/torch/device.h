// The device and the stream a call runs on, and what PyTorch offers there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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
    static Status run(void* context, const cuda::ProductParams& params, cuda::Stream stream);

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

// Which gradients are needed. PyTorch does not count the elements of a list of a fixed size.
std::vector<bool> take_needs(StableIValue value, size_t count);

// The gradient of `like`, uninitialized; where it is not needed, an empty tensor.
Tensor gradient_of(const Tensor& like, bool needed);

// Null marks a gradient that is not needed, so the pointer to one that is must be another, even if it is
// empty.
void* data_of_gradient(const Tensor& gradient, bool needed);

}  // namespace opserve::torch_binding
