#include "cuda.h"

namespace opserve::ort_binding {
namespace {

OrtStatus* compute_stream(const KernelCall& call, void** stream) {
    *stream = nullptr;
    return call.api().KernelContext_GetGPUComputeStream(call.context(), stream);
}

}  // namespace

StreamWorkspace::~StreamWorkspace() {
    if (block_ != nullptr) call_.allocator()->Free(call_.allocator(), block_);
}

OrtStatus* StreamWorkspace::allocate(int64_t bytes, void** data) {
    *data = nullptr;
    if (bytes == 0) return nullptr;
    void* stream = nullptr;
    OPSERVE_ORT_RETURN_IF_ERROR(compute_stream(call_, &stream));
    int64_t room = 0;
    if (checked_add(bytes, kWorkspaceAlignment - 1, &room)) {
        const size_t size = static_cast<size_t>(room);
        if (stream == nullptr) {
            // The default stream, which all share.
            block_ = ort_binding::allocate(call_.allocator(), size);
        } else {
            const OrtMemoryInfo* memory = nullptr;
            OPSERVE_ORT_RETURN_IF_ERROR(call_.api().AllocatorGetInfo(call_.allocator(), &memory));
            // Null if it fails; the device is asked for the reason below.
            static_cast<void>(succeeded(call_.api(), call_.api().KernelContext_GetScratchBuffer(
                                                         call_.context(), memory, size, &block_)));
        }
    }
    if (block_ == nullptr) {
        return call_.status(cuda::out_of_memory(call_.op(), "cannot allocate intermediate results"));
    }
    *data = align_workspace(block_);
    return nullptr;
}

OrtStatus* Cuda::Execution::start() {
    void* stream = nullptr;
    OPSERVE_ORT_RETURN_IF_ERROR(compute_stream(call_, &stream));
    stream_ = static_cast<cuda::Stream>(stream);
    const OrtMemoryInfo* memory = nullptr;
    OPSERVE_ORT_RETURN_IF_ERROR(call_.api().AllocatorGetInfo(call_.allocator(), &memory));
    int device = 0;
    OPSERVE_ORT_RETURN_IF_ERROR(call_.api().MemoryInfoGetId(memory, &device));
    return call_.status(cuda::set_device(device));
}

}  // namespace opserve::ort_binding
