#include "cpu.h"
#include "custom_op.h"
#include "opserve/built_for.h"

OPSERVE_BUILT_FOR(kOnnxRuntimeApi, opserve::ort_binding::kApiVersion, 0)

// The library's only symbol, which the runtime looks up.
extern "C" __attribute__((visibility("default"))) opserve::ort_binding::OrtStatus* RegisterCustomOps(
    opserve::ort_binding::OrtSessionOptions* options, const opserve::ort_binding::OrtApiBase* base) {
    using namespace opserve::ort_binding;
    return register_operators<Cpu>("libopserve_onnxruntime", options, base);
}
