#include "device.h"
#include "kernels.h"

namespace opserve::cuda {

Status set_device(int32_t index) { return check_runtime("set_device", cudaSetDevice(index)); }

Status device_state(const char* op) {
    size_t free = 0, total = 0;
    return check_runtime(op, cudaMemGetInfo(&free, &total));
}

Status out_of_memory(const char* op, const char* what) {
    size_t free = 0, total = 0;
    OPSERVE_RETURN_IF_ERROR(check_runtime(op, cudaMemGetInfo(&free, &total)));
    return Status::out_of_memory("opserve::%s: out of memory: %s; %zu of the GPU's %zu MiB are free", op,
                                 what, free >> 20, total >> 20);
}

Status set_to_zero(const char* op, void* data, int64_t bytes, Stream stream) {
    if (bytes == 0) return {};
    return check_runtime(op, cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream));
}

Status Product::operator()(const char* op, const ProductParams& params, Stream stream) const {
    return run_ != nullptr ? run_(context_, op, params, stream) : product_kernel(op, params, stream);
}

}  // namespace opserve::cuda
