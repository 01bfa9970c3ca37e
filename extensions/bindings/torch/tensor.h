// A thin owner of one tensor handle of the stable ABI. torch::stable::Tensor does the same with an allocation
// per argument, a good part of the cost of a call on a few elements.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/stableivalue_conversions.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::torch_binding {

// The stable ABI's way to report an error: the runtime catches the exception and raises RuntimeError. Thrown
// directly, so that the message is the kernel's, without a source location in front.
inline void throw_if_error(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

// A failure of PyTorch itself; the stable ABI does not say why. A call that takes memory fails for lack of it
// if everything else is right.
class RuntimeFailure : public std::runtime_error {
  public:
    RuntimeFailure(const char* what, bool takes_memory)
        : std::runtime_error(std::string(kPrefix) + what), takes_memory_(takes_memory) {}

    const char* plainly() const { return what() + kPrefix.size(); }
    bool takes_memory() const { return takes_memory_; }

  private:
    static constexpr std::string_view kPrefix = "opserve: ";

    bool takes_memory_;
};

// Out of line: there are many calls, and none is expected to fail.
[[noreturn]] void throw_failure(const char* what, bool takes_memory);

inline void require(AOTITorchError error, const char* what) {
    if (error != AOTI_TORCH_SUCCESS) throw_failure(what, false);
}
inline void require_memory(AOTITorchError error, const char* what) {
    if (error != AOTI_TORCH_SUCCESS) throw_failure(what, true);
}

class Tensor {
  public:
    Tensor() = default;
    explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
    Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Tensor& operator=(Tensor&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Tensor() {
        if (handle_ != nullptr) aoti_torch_delete_tensor_object(handle_);
    }

    // Returns an uninitialized contiguous tensor on the device of `like`.
    static Tensor empty(const int64_t* sizes, int64_t dim, int32_t dtype, const Tensor& like);

    explicit operator bool() const { return handle_ != nullptr; }
    AtenTensorHandle get() const { return handle_; }
    AtenTensorHandle release() { return std::exchange(handle_, nullptr); }

    int64_t dim() const;
    const int64_t* sizes() const;
    const int64_t* strides() const;
    int32_t dtype() const;
    int32_t device_type() const;
    int32_t device_index() const;
    const void* data() const;
    void* mutable_data() const;
    TensorArg arg() const;

    // Keeps the tensor if it is contiguous already.
    void make_contiguous();
    // The same for a kernel that takes a row stride: only the last dimension has to be dense.
    void make_rows_contiguous();
    // Makes the tensor contiguous and returns its data; null if an optional one was left out.
    const void* contiguous_data();
    // Makes the rows of a matrix contiguous and returns its data; rows are `row_stride` elements apart.
    const void* matrix_data(int64_t* row_stride);

  private:
    AtenTensorHandle handle_ = nullptr;
};

inline Tensor take_tensor(StableIValue value) {
    return Tensor(torch::stable::detail::to<AtenTensorHandle>(value));
}

inline Tensor take_optional_tensor(StableIValue value) {
    auto handle = torch::stable::detail::to<std::optional<AtenTensorHandle>>(value);
    return handle.has_value() ? Tensor(*handle) : Tensor();
}

// Leaves the results at the bottom of the stack.
template <class... Tensors>
void give_tensors(StableIValue* stack, Tensors&&... tensors) {
    ((*stack++ = torch::stable::detail::from(tensors.release())), ...);
}

// An optional tensor as the checks take it: null if it was left out.
class OptionalArg {
  public:
    explicit OptionalArg(const Tensor& tensor) : present_(tensor) {
        if (present_) arg_ = tensor.arg();
    }
    operator const TensorArg*() const { return present_ ? &arg_ : nullptr; }

  private:
    bool present_;
    TensorArg arg_{};
};

}  // namespace opserve::torch_binding
