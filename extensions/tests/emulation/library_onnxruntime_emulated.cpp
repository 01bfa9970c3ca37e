// The CUDA part of the ONNX Runtime binding, given to the provider of the CPU: the same operators, the same
// kernels, on memory of the host and the default stream.
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
