#include "kernel_call.h"

namespace opserve::ort_binding {

void* allocate(OrtAllocator* allocator, size_t bytes) noexcept {
    try {
        return allocator->Alloc(allocator, bytes);
    } catch (...) {
        return nullptr;
    }
}

}  // namespace opserve::ort_binding
