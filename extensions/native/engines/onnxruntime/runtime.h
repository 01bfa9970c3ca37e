// ONNX Runtime's library, opened from its Python package, and its objects.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "abi.h"

namespace opserve::native::ort {

struct Runtime {
    const OrtApi* api;
    std::string version;
    OrtEnv* environment;
    // Describes the processor's memory.
    OrtMemoryInfo* cpu_memory;
};

// Opens the library at the first call, for the rest of the process. Throws ModelError: it is missing or too
// old.
const Runtime& runtime();

// Throws std::runtime_error for a status that is an error, with the text that Python's exceptions have:
// "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : message".
void check(OrtStatus* status);

// The message of such an exception in one line, without what comes before the code.
std::string reason(std::string_view text);

template <typename T, void (*OrtApi::*release)(T*)>
struct Releaser {
    void operator()(T* object) const { (runtime().api->*release)(object); }
};
template <typename T, void (*OrtApi::*release)(T*)>
using Owned = std::unique_ptr<T, Releaser<T, release>>;

using Session = Owned<OrtSession, &OrtApi::ReleaseSession>;
using SessionOptions = Owned<OrtSessionOptions, &OrtApi::ReleaseSessionOptions>;
using Value = Owned<OrtValue, &OrtApi::ReleaseValue>;
using TypeInfo = Owned<OrtTypeInfo, &OrtApi::ReleaseTypeInfo>;
using TensorInfo = Owned<OrtTensorTypeAndShapeInfo, &OrtApi::ReleaseTensorTypeAndShapeInfo>;
using IoBinding = Owned<OrtIoBinding, &OrtApi::ReleaseIoBinding>;
using CudaOptions = Owned<OrtCUDAProviderOptionsV2, &OrtApi::ReleaseCUDAProviderOptions>;

// Opens the libraries of CUDA and cuDNN among Python's packages, where ONNX Runtime does not look for them
// itself.
void preload_cuda();

}  // namespace opserve::native::ort
