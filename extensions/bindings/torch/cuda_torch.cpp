#include <torch/csrc/stable/c/shim.h>

#include <array>
#include <optional>
#include <stdexcept>

#include "device.h"

namespace opserve::torch_binding {

Cuda::Execution::Execution(const Tensor& like)
    : dtype_(like.dtype()),
      device_type_(like.device_type()),
      device_index_(like.device_index()),
      guard_(device_index_) {}

Status Cuda::Execution::multiply(void* context, const char* op, const cuda::ProductParams& p,
                                 cuda::Stream) try {
    const auto& self = *static_cast<const Execution*>(context);
    if (p.a.rows == 0 || p.b.columns == 0) return {};
    const cuda::Matrix out{p.c, p.a.rows, p.b.columns, p.b.columns, 1};
    // The stable ABI cannot call an operator with a Scalar among its arguments, such as addmm. linear
    // multiplies by a transposed matrix and adds a row in one step.
    if (p.bias != nullptr) {
        std::array<StableIValue, 4> stack{
            self.wrap(p.a), self.wrap(p.b.transposed()),
            torch::stable::detail::from(std::optional<AtenTensorHandle>(self.vector(p.bias, p.b.columns))),
            self.wrap(out)};
        require_memory(torch_call_dispatcher("aten::linear", "out", stack.data(), TORCH_ABI_VERSION),
                       "cannot multiply two matrices");
        take_tensor(stack[0]);
    } else {
        std::array<StableIValue, 3> stack{self.wrap(p.a), self.wrap(p.b), self.wrap(out)};
        require_memory(torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION),
                       "cannot multiply two matrices");
        take_tensor(stack[0]);
    }
    return {};
} catch (const RuntimeFailure& failure) {
    const Status cause = Cuda::find_cause(op, failure);
    if (!cause.ok()) return cause;
    return Status::device_failure("opserve::%s: the GPU reports no error, but PyTorch %s", op,
                                  failure.plainly());
}

AtenTensorHandle Cuda::Execution::view(const void* data, int64_t dim, const int64_t* sizes,
                                       const int64_t* strides) const {
    AtenTensorHandle handle = nullptr;
    require(aoti_torch_create_tensor_from_blob(const_cast<void*>(data), dim, sizes, strides, 0, dtype_,
                                               device_type_, device_index_, &handle),
            "cannot pass a matrix to PyTorch");
    return handle;
}

StableIValue Cuda::Execution::wrap(const cuda::Matrix& m) const {
    const int64_t sizes[] = {m.rows, m.columns}, strides[] = {m.row_stride, m.column_stride};
    return torch::stable::detail::from(view(m.data, 2, sizes, strides));
}

AtenTensorHandle Cuda::Execution::vector(const void* data, int64_t size) const {
    const int64_t stride = 1;
    return view(data, 1, &size, &stride);
}

Status Cuda::find_cause(const char* op, const RuntimeFailure& failure) {
    return failure.takes_memory() ? cuda::out_of_memory(op, failure.plainly()) : cuda::device_state(op);
}

DeviceWorkspace::DeviceWorkspace(int64_t bytes, const Tensor& like) : bytes_(bytes) {
    if (bytes > 0) tensor_ = Tensor::empty(&bytes, 1, aoti_torch_dtype_uint8(), like);
}

}  // namespace opserve::torch_binding
