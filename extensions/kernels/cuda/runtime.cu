#include "device.h"
#include "kernels.h"

namespace opserve::cuda {

Status set_device(int32_t index) { return check_runtime("set_device", cudaSetDevice(index)); }

Status set_to_zero(const char* op, void* data, int64_t bytes, Stream stream) {
    if (bytes == 0) return {};
    return check_runtime(op, cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream));
}

Status Product::operator()(const ProductParams& params, Stream stream) const {
    return run_ != nullptr ? run_(context_, params, stream) : product_kernel("product", params, stream);
}

}  // namespace opserve::cuda
