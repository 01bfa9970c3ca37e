#include <torch/csrc/stable/c/shim.h>

#include <array>
#include <cinttypes>
#include <cstdio>

#include "tensor.h"

namespace opserve::torch_binding {
namespace {

DType to_dtype(int32_t dtype) {
    static const struct {
        int32_t float16 = aoti_torch_dtype_float16(), bfloat16 = aoti_torch_dtype_bfloat16(),
                float32 = aoti_torch_dtype_float32(), float64 = aoti_torch_dtype_float64(),
                int32 = aoti_torch_dtype_int32(), int64 = aoti_torch_dtype_int64();
    } known;
    if (dtype == known.float32) return DType::kFloat32;
    if (dtype == known.float64) return DType::kFloat64;
    if (dtype == known.int64) return DType::kInt64;
    if (dtype == known.int32) return DType::kInt32;
    if (dtype == known.float16) return DType::kFloat16;
    if (dtype == known.bfloat16) return DType::kBFloat16;
    return DType::kOther;
}

DeviceType to_device_type(int32_t type) {
    static const int32_t cpu = aoti_torch_device_type_cpu(), cuda = aoti_torch_device_type_cuda();
    return type == cpu ? DeviceType::kCpu : type == cuda ? DeviceType::kCuda : DeviceType::kOther;
}

}  // namespace

void throw_failure(const char* what, bool takes_memory) { throw RuntimeFailure(what, takes_memory); }

Tensor Tensor::empty(const int64_t* sizes, int64_t dim, int32_t dtype, const Tensor& like) {
    constexpr int64_t max_dim = 64;
    if (dim > max_dim) throw std::runtime_error("opserve: a tensor must have at most 64 dimensions");
    std::array<int64_t, max_dim> strides;
    int64_t stride = 1;
    for (int64_t axis = dim - 1; axis >= 0; --axis) {
        strides[axis] = stride;
        stride *= sizes[axis] > 1 ? sizes[axis] : 1;
    }
    Tensor out;
    if (aoti_torch_empty_strided(dim, sizes, strides.data(), dtype, like.device_type(), like.device_index(),
                                 &out.handle_) != AOTI_TORCH_SUCCESS) {
        char text[64];
        std::snprintf(text, sizeof(text), "cannot allocate a tensor of %" PRId64 " elements", stride);
        throw_failure(text, true);
    }
    return out;
}

int64_t Tensor::dim() const {
    int64_t dim = 0;
    require(aoti_torch_get_dim(handle_, &dim), "cannot read a tensor's rank");
    return dim;
}

const int64_t* Tensor::sizes() const {
    int64_t* sizes = nullptr;
    require(aoti_torch_get_sizes(handle_, &sizes), "cannot read a tensor's sizes");
    return sizes;
}

const int64_t* Tensor::strides() const {
    int64_t* strides = nullptr;
    require(aoti_torch_get_strides(handle_, &strides), "cannot read a tensor's strides");
    return strides;
}

int32_t Tensor::dtype() const {
    int32_t dtype = 0;
    require(aoti_torch_get_dtype(handle_, &dtype), "cannot read a tensor's dtype");
    return dtype;
}

int32_t Tensor::device_type() const {
    int32_t type = 0;
    require(aoti_torch_get_device_type(handle_, &type), "cannot read a tensor's device");
    return type;
}

int32_t Tensor::device_index() const {
    int32_t index = 0;
    require(aoti_torch_get_device_index(handle_, &index), "cannot read a tensor's device");
    return index;
}

const void* Tensor::data() const {
    const void* data = nullptr;
    require(torch_get_const_data_ptr(handle_, &data), "cannot read a tensor's data");
    return data;
}

void* Tensor::mutable_data() const {
    void* data = nullptr;
    require(torch_get_mutable_data_ptr(handle_, &data), "cannot write a tensor's data");
    return data;
}

TensorArg Tensor::arg() const {
    return {to_dtype(dtype()), to_device_type(device_type()), device_index(), dim(), sizes()};
}

void Tensor::make_contiguous() {
    bool contiguous = false;
    require(aoti_torch_is_contiguous(handle_, &contiguous), "cannot read a tensor's layout");
    if (contiguous) return;
    std::array<StableIValue, 2> stack{
        torch::stable::detail::from(release()),
        torch::stable::detail::from(aoti_torch_memory_format_contiguous_format())};
    require_memory(torch_call_dispatcher("aten::contiguous", "", stack.data(), TORCH_ABI_VERSION),
                   "cannot make a tensor contiguous");
    *this = take_tensor(stack[0]);
}

const void* Tensor::contiguous_data() {
    if (handle_ == nullptr) return nullptr;
    make_contiguous();
    return data();
}

void Tensor::make_rows_contiguous() {
    const int64_t last = dim() - 1;
    if (strides()[last] != 1 && sizes()[last] != 1) make_contiguous();
}

const void* Tensor::matrix_data(int64_t* row_stride) {
    make_rows_contiguous();
    *row_stride = strides()[0];
    return data();
}

}  // namespace opserve::torch_binding
