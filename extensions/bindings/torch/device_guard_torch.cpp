#include "device.h"

namespace opserve::torch_binding {

DeviceGuard::DeviceGuard(int32_t device_index) {
    DeviceGuardHandle guard = nullptr;
    require(aoti_torch_create_device_guard(device_index, &guard), "cannot select a device");
    guard_ = guard;
    void* stream = nullptr;
    const bool found = aoti_torch_get_current_cuda_stream(device_index, &stream) == AOTI_TORCH_SUCCESS;
    const Status status = found ? cuda::set_device(device_index) : Status();
    if (!found || !status.ok()) {
        // The destructor does not run after a constructor that throws.
        aoti_torch_delete_device_guard(guard);
        require(found ? AOTI_TORCH_SUCCESS : AOTI_TORCH_FAILURE, "cannot find the current stream");
        throw_if_error(status);
    }
    stream_ = static_cast<cuda::Stream>(stream);
}

DeviceGuard::~DeviceGuard() { aoti_torch_delete_device_guard(static_cast<DeviceGuardHandle>(guard_)); }

}  // namespace opserve::torch_binding
