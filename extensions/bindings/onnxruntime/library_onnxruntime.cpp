#include "cpu.h"
#include "custom_op.h"

// The one symbol of the library, which the runtime looks for.
extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL
RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    using namespace opserve::ort_binding;
    return register_operators<Cpu>("libopserve_onnxruntime", options, base);
}
