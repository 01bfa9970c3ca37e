// Replaces PyTorch's libtorch_cuda at link time, so that the CUDA library depends on it even if built with a
// PyTorch without CUDA: with a CUDA build of PyTorch imported, the real one is already in the process, and
// without it nothing is loaded by mistake. This one is never loaded.
#include <cstdint>

extern "C" __attribute__((visibility("default"))) int32_t aoti_torch_get_current_cuda_stream(int32_t,
                                                                                             void**) {
    return 1;
}
