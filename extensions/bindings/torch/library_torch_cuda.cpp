// Adds the CUDA kernels to the operators that libopserve_torch defines. A separate library, since it needs
// PyTorch's CUDA part: it is loaded only where there is a GPU.
#include <torch/csrc/stable/library.h>

#include "operators.h"
#include "opserve/built_for.h"

OPSERVE_BUILT_FOR(kTorchStableAbi, TORCH_TARGET_VERSION >> 56, TORCH_TARGET_VERSION >> 48 & 0xff)

STABLE_TORCH_LIBRARY_IMPL(opserve, CUDA, library) {
    opserve::torch_binding::implement_operators<opserve::torch_binding::Cuda>(library);
}
