// The parts of ONNX Runtime's C API that the engine uses, declared from its documented binary interface, as
// bindings/onnxruntime/abi.h does for operators: Python's packages have no headers. The runtime promises that
// the table of a version never changes; the places below are those of API version 18 (ONNX Runtime 1.18), and
// so of every later one. Names and arguments are the runtime's; https://onnxruntime.ai/docs/api/c/ describes
// them. test_onnxruntime_abi.py compares all of this with the runtime's own header where it is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace opserve::native::ort {

// The oldest API that has everything we call. An older runtime returns no table for it.
inline constexpr uint32_t kApiVersion = 18;

struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtMemoryInfo;
struct OrtIoBinding;
struct OrtCUDAProviderOptionsV2;
struct OrtApi;

// Enumerations are 32 bits wide; those that the runtime only returns may have values not listed here.
enum OrtErrorCode : uint32_t { ORT_OK = 0, ORT_FAIL = 1 };
enum OrtLoggingLevel : uint32_t { ORT_LOGGING_LEVEL_WARNING = 2, ORT_LOGGING_LEVEL_ERROR = 3 };
enum GraphOptimizationLevel : uint32_t {
    ORT_DISABLE_ALL = 0,
    ORT_ENABLE_BASIC = 1,
    ORT_ENABLE_EXTENDED = 2,
    ORT_ENABLE_ALL = 99,
};
enum OrtAllocatorType : int32_t { OrtDeviceAllocator = 0 };
enum OrtMemType : int32_t { OrtMemTypeDefault = 0 };
enum ONNXType : uint32_t { ONNX_TYPE_UNKNOWN = 0, ONNX_TYPE_TENSOR = 1 };
enum ONNXTensorElementDataType : uint32_t {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 = 4,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 = 5,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING = 8,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL = 9,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32 = 12,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64 = 13,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16,
};

struct OrtAllocator {
    uint32_t version;
    void* (*Alloc)(OrtAllocator* self, size_t bytes);
    void (*Free)(OrtAllocator* self, void* block);
};

struct OrtApiBase {
    // Null if the runtime is older than the version.
    const OrtApi* (*GetApi)(uint32_t version);
    const char* (*GetVersionString)();
};

// Null is success. The receiver of a status or an object releases it.
struct OrtApi {
    void* unused_0;
    OrtErrorCode (*GetErrorCode)(const OrtStatus*);
    const char* (*GetErrorMessage)(const OrtStatus*);
    OrtStatus* (*CreateEnv)(OrtLoggingLevel, const char* log_id, OrtEnv** out);
    void* unused_4[7 - 4];
    OrtStatus* (*CreateSession)(const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession** out);
    void* unused_8;
    OrtStatus* (*Run)(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                      const OrtValue* const* inputs, size_t input_count, const char* const* output_names,
                      size_t output_count, OrtValue** outputs);
    OrtStatus* (*CreateSessionOptions)(OrtSessionOptions** out);
    void* unused_11[22 - 11];
    OrtStatus* (*SetSessionLogSeverityLevel)(OrtSessionOptions*, int level);
    OrtStatus* (*SetSessionGraphOptimizationLevel)(OrtSessionOptions*, GraphOptimizationLevel);
    OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions*, int threads);
    OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions*, int threads);
    void* unused_26[30 - 26];
    OrtStatus* (*SessionGetInputCount)(const OrtSession*, size_t* out);
    OrtStatus* (*SessionGetOutputCount)(const OrtSession*, size_t* out);
    void* unused_32;
    OrtStatus* (*SessionGetInputTypeInfo)(const OrtSession*, size_t index, OrtTypeInfo** out);
    OrtStatus* (*SessionGetOutputTypeInfo)(const OrtSession*, size_t index, OrtTypeInfo** out);
    void* unused_35;
    OrtStatus* (*SessionGetInputName)(const OrtSession*, size_t index, OrtAllocator*, char** out);
    OrtStatus* (*SessionGetOutputName)(const OrtSession*, size_t index, OrtAllocator*, char** out);
    void* unused_38[49 - 38];
    OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data, size_t bytes,
                                                 const int64_t* sizes, size_t dim, ONNXTensorElementDataType,
                                                 OrtValue** out);
    OrtStatus* (*IsTensor)(const OrtValue*, int* out);
    OrtStatus* (*GetTensorMutableData)(OrtValue*, void** out);
    void* unused_52[55 - 52];
    // The information belongs to the type; null if that is not a tensor.
    OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo** out);
    OrtStatus* (*GetOnnxTypeFromTypeInfo)(const OrtTypeInfo*, ONNXType* out);
    void* unused_57[60 - 57];
    OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType* out);
    OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t* out);
    OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t* sizes, size_t dim);
    void* unused_63[65 - 63];
    OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo** out);
    void* unused_66[69 - 66];
    OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo** out);
    void* unused_70[76 - 70];
    OrtStatus* (*AllocatorFree)(OrtAllocator*, void* block);
    void* unused_77;
    // It belongs to the runtime.
    OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator** out);
    void* unused_79[92 - 79];
    void (*ReleaseEnv)(OrtEnv*);
    void (*ReleaseStatus)(OrtStatus*);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo*);
    void (*ReleaseSession)(OrtSession*);
    void (*ReleaseValue)(OrtValue*);
    void* unused_97;
    void (*ReleaseTypeInfo)(OrtTypeInfo*);
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
    void (*ReleaseSessionOptions)(OrtSessionOptions*);
    void* unused_101[125 - 101];
    OrtStatus* (*GetAvailableProviders)(char*** out, int* count);
    OrtStatus* (*ReleaseAvailableProviders)(char** providers, int count);
    void* unused_127[130 - 127];
    OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);
    void* unused_131[134 - 131];
    OrtStatus* (*CreateIoBinding)(OrtSession*, OrtIoBinding** out);
    void (*ReleaseIoBinding)(OrtIoBinding*);
    OrtStatus* (*BindInput)(OrtIoBinding*, const char* name, const OrtValue*);
    void* unused_137[202 - 137];
    OrtStatus* (*SynchronizeBoundInputs)(OrtIoBinding*);
    void* unused_203;
    OrtStatus* (*SessionOptionsAppendExecutionProvider_CUDA_V2)(OrtSessionOptions*,
                                                                const OrtCUDAProviderOptionsV2*);
    OrtStatus* (*CreateCUDAProviderOptions)(OrtCUDAProviderOptionsV2** out);
    OrtStatus* (*UpdateCUDAProviderOptions)(OrtCUDAProviderOptionsV2*, const char* const* keys,
                                            const char* const* values, size_t count);
    void* unused_207;
    void (*ReleaseCUDAProviderOptions)(OrtCUDAProviderOptionsV2*);
    void* unused_209[228 - 209];
    OrtStatus* (*RegisterCustomOpsLibrary_V2)(OrtSessionOptions*, const char* path);
};

// entry(place in the table, function) for each function declared above.
// clang-format off: it would indent each entry more than the one before.
#define OPSERVE_ORT_ENGINE_ENTRIES(entry)                                                                             \
    entry(1, GetErrorCode) entry(2, GetErrorMessage) entry(3, CreateEnv) entry(7, CreateSession) entry(9, Run)        \
    entry(10, CreateSessionOptions) entry(22, SetSessionLogSeverityLevel)                                            \
    entry(23, SetSessionGraphOptimizationLevel) entry(24, SetIntraOpNumThreads) entry(25, SetInterOpNumThreads)       \
    entry(30, SessionGetInputCount) entry(31, SessionGetOutputCount) entry(33, SessionGetInputTypeInfo)              \
    entry(34, SessionGetOutputTypeInfo) entry(36, SessionGetInputName) entry(37, SessionGetOutputName)               \
    entry(49, CreateTensorWithDataAsOrtValue) entry(50, IsTensor) entry(51, GetTensorMutableData)                    \
    entry(55, CastTypeInfoToTensorInfo) entry(56, GetOnnxTypeFromTypeInfo) entry(60, GetTensorElementType)           \
    entry(61, GetDimensionsCount) entry(62, GetDimensions) entry(65, GetTensorTypeAndShape)                          \
    entry(69, CreateCpuMemoryInfo) entry(76, AllocatorFree) entry(78, GetAllocatorWithDefaultOptions)                \
    entry(92, ReleaseEnv) entry(93, ReleaseStatus) entry(94, ReleaseMemoryInfo) entry(95, ReleaseSession)            \
    entry(96, ReleaseValue) entry(98, ReleaseTypeInfo) entry(99, ReleaseTensorTypeAndShapeInfo)                      \
    entry(100, ReleaseSessionOptions) entry(125, GetAvailableProviders) entry(126, ReleaseAvailableProviders)        \
    entry(130, AddSessionConfigEntry) entry(134, CreateIoBinding) entry(135, ReleaseIoBinding) entry(136, BindInput) \
    entry(202, SynchronizeBoundInputs) entry(204, SessionOptionsAppendExecutionProvider_CUDA_V2)                     \
    entry(205, CreateCUDAProviderOptions) entry(206, UpdateCUDAProviderOptions)                                      \
    entry(208, ReleaseCUDAProviderOptions) entry(228, RegisterCustomOpsLibrary_V2)
// clang-format on

#define OPSERVE_ORT_CHECK_PLACE(place, function) \
    static_assert(offsetof(OrtApi, function) == place * sizeof(void*), #function);
OPSERVE_ORT_ENGINE_ENTRIES(OPSERVE_ORT_CHECK_PLACE)
#undef OPSERVE_ORT_CHECK_PLACE

}  // namespace opserve::native::ort
