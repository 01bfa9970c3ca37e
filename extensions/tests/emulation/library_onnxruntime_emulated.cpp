// The CUDA part of the ONNX Runtime binding for the CPU provider: the same operators, the same kernels, in
// host memory and on the default stream.
#include "cuda.h"
#include "custom_op.h"

namespace opserve::ort_binding {
namespace {

struct EmulatedCuda : Cuda {
    static constexpr const char* kProvider = nullptr;
};

}  // namespace
}  // namespace opserve::ort_binding

extern "C" __attribute__((visibility("default"))) opserve::ort_binding::OrtStatus* RegisterCustomOps(
    opserve::ort_binding::OrtSessionOptions* options, const opserve::ort_binding::OrtApiBase* base) {
    using namespace opserve::ort_binding;
    return register_operators<EmulatedCuda>("libopserve_onnxruntime_emulated", options, base);
}
