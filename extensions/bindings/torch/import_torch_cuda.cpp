// Stands in for PyTorch's libtorch_cuda at link time, so that the CUDA library names it as needed also where
// PyTorch is a build without CUDA: with PyTorch imported the real one is in the process already, and without
// it nothing loads by mistake. Never loaded itself.
#include <cstdint>

extern "C" __attribute__((visibility("default"))) int32_t aoti_torch_get_current_cuda_stream(int32_t,
                                                                                             void**) {
    return 1;
}
