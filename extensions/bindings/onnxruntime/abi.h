// The parts of ONNX Runtime's C API that this binding uses, declared from its documented binary interface, so
// that the operators are built without the runtime's headers, which its Python packages do not contain.
//
// The runtime returns a table of function pointers for the requested version, and promises that a version's
// table never changes: functions are only added at its end. The places below are those of API version 18
// (ONNX Runtime 1.18), and so of every later one. Names and arguments are the runtime's;
// https://onnxruntime.ai/docs/api/c/ describes them. test_onnxruntime_abi.py compares all of this with the
// runtime's own header where it is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace opserve::ort_binding {

// The oldest API that has everything we call. An older runtime returns no table for it.
inline constexpr uint32_t kApiVersion = 18;

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtMemoryInfo;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtOpAttr;
struct OrtApi;
struct OrtCustomOp;

// Enumerations are 32 bits wide; those that the runtime only returns may have values not listed here.
enum OrtErrorCode : uint32_t {
    ORT_OK = 0,
    ORT_FAIL = 1,
    ORT_INVALID_ARGUMENT = 2,
    ORT_RUNTIME_EXCEPTION = 6,
    ORT_EP_FAIL = 11,
};

enum ONNXTensorElementDataType : uint32_t {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 = 4,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 = 5,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL = 9,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE = 11,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32 = 12,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64 = 13,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16,
};

enum OrtMemType : int32_t { OrtMemTypeDefault = 0 };
enum OrtOpAttrType : uint32_t { ORT_OP_ATTR_INTS = 2 };
enum OrtCustomOpInputOutputCharacteristic : uint32_t { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };

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
    OrtStatus* (*CreateStatus)(OrtErrorCode code, const char* message);
    OrtErrorCode (*GetErrorCode)(const OrtStatus*);
    const char* (*GetErrorMessage)(const OrtStatus*);
    void* unused_3[26 - 3];
    OrtStatus* (*CreateCustomOpDomain)(const char* domain, OrtCustomOpDomain** out);
    OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);
    OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);
    void* unused_29[51 - 29];
    OrtStatus* (*GetTensorMutableData)(OrtValue*, void** out);
    void* unused_52[57 - 52];
    OrtStatus* (*CreateTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo** out);
    OrtStatus* (*SetTensorElementType)(OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType);
    OrtStatus* (*SetDimensions)(OrtTensorTypeAndShapeInfo*, const int64_t* sizes, size_t dim);
    OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*, ONNXTensorElementDataType* out);
    OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t* out);
    OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t* sizes, size_t dim);
    OrtStatus* (*GetSymbolicDimensions)(const OrtTensorTypeAndShapeInfo*, const char** names, size_t dim);
    OrtStatus* (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, size_t* out);
    OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo** out);
    void* unused_66[72 - 66];
    OrtStatus* (*MemoryInfoGetId)(const OrtMemoryInfo*, int* out);
    void* unused_73[77 - 73];
    OrtStatus* (*AllocatorGetInfo)(const OrtAllocator*, const OrtMemoryInfo** out);
    void* unused_78[85 - 78];
    OrtStatus* (*KernelInfoGetAttribute_float)(const OrtKernelInfo*, const char* name, float* out);
    OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo*, const char* name, int64_t* out);
    // With null for `out`, it only returns the length of the text.
    OrtStatus* (*KernelInfoGetAttribute_string)(const OrtKernelInfo*, const char* name, char* out,
                                                size_t* size);
    void* unused_88[90 - 88];
    OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, size_t index, const OrtValue** out);
    OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, size_t index, const int64_t* sizes, size_t dim,
                                          OrtValue** out);
    void* unused_92[93 - 92];
    void (*ReleaseStatus)(OrtStatus*);
    void* unused_94[96 - 94];
    void (*ReleaseValue)(OrtValue*);
    void* unused_97[99 - 97];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
    void* unused_100[101 - 100];
    void (*ReleaseCustomOpDomain)(OrtCustomOpDomain*);
    void* unused_102[130 - 102];
    OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);
    void* unused_131[132 - 131];
    void (*ReleaseAllocator)(OrtAllocator*);
    void* unused_133[162 - 133];
    // With null for `out`, they only return the number of elements.
    OrtStatus* (*KernelInfoGetAttributeArray_float)(const OrtKernelInfo*, const char* name, float* out,
                                                    size_t* size);
    OrtStatus* (*KernelInfoGetAttributeArray_int64)(const OrtKernelInfo*, const char* name, int64_t* out,
                                                    size_t* size);
    void* unused_164[193 - 164];
    OrtStatus* (*KernelContext_GetGPUComputeStream)(const OrtKernelContext*, void** out);
    void* unused_194[230 - 194];
    OrtStatus* (*KernelInfo_GetInputCount)(const OrtKernelInfo*, size_t* out);
    void* unused_231[236 - 231];
    OrtStatus* (*KernelInfoGetAttribute_tensor)(const OrtKernelInfo*, const char* name, OrtAllocator*,
                                                OrtValue** out);
    OrtStatus* (*HasSessionConfigEntry)(const OrtSessionOptions*, const char* key, int* out);
    OrtStatus* (*GetSessionConfigEntry)(const OrtSessionOptions*, const char* key, char* value, size_t* size);
    void* unused_239[267 - 239];
    OrtStatus* (*ShapeInferContext_GetInputCount)(const OrtShapeInferContext*, size_t* out);
    OrtStatus* (*ShapeInferContext_GetInputTypeShape)(const OrtShapeInferContext*, size_t index,
                                                      OrtTensorTypeAndShapeInfo** out);
    OrtStatus* (*ShapeInferContext_GetAttribute)(const OrtShapeInferContext*, const char* name,
                                                 const OrtOpAttr** out);
    OrtStatus* (*ShapeInferContext_SetOutputTypeShape)(const OrtShapeInferContext*, size_t index,
                                                       const OrtTensorTypeAndShapeInfo*);
    OrtStatus* (*SetSymbolicDimensions)(OrtTensorTypeAndShapeInfo*, const char** names, size_t dim);
    OrtStatus* (*ReadOpAttr)(const OrtOpAttr*, OrtOpAttrType, void* data, size_t bytes, size_t* out);
    void* unused_273[274 - 273];
    OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext*, void (*run)(void*, size_t), size_t total,
                                            size_t batches, void* user_data);
    void* unused_275[277 - 275];
    OrtStatus* (*KernelContext_GetScratchBuffer)(const OrtKernelContext*, const OrtMemoryInfo*, size_t bytes,
                                                 void** out);
    OrtStatus* (*KernelInfoGetAllocator)(const OrtKernelInfo*, OrtMemType, OrtAllocator** out);
};

// entry(place in the table, function) for each function declared above.
// clang-format off: it would indent each entry more than the one before.
#define OPSERVE_ORT_API_ENTRIES(entry)                                                                      \
    entry(0, CreateStatus) entry(1, GetErrorCode) entry(2, GetErrorMessage)                                 \
    entry(26, CreateCustomOpDomain) entry(27, CustomOpDomain_Add) entry(28, AddCustomOpDomain)              \
    entry(51, GetTensorMutableData) entry(57, CreateTensorTypeAndShapeInfo)                                 \
    entry(58, SetTensorElementType) entry(59, SetDimensions) entry(60, GetTensorElementType)                \
    entry(61, GetDimensionsCount) entry(62, GetDimensions) entry(63, GetSymbolicDimensions)                 \
    entry(64, GetTensorShapeElementCount) entry(65, GetTensorTypeAndShape) entry(72, MemoryInfoGetId)       \
    entry(77, AllocatorGetInfo) entry(85, KernelInfoGetAttribute_float)                                     \
    entry(86, KernelInfoGetAttribute_int64) entry(87, KernelInfoGetAttribute_string)                        \
    entry(90, KernelContext_GetInput) entry(91, KernelContext_GetOutput) entry(93, ReleaseStatus)           \
    entry(96, ReleaseValue) entry(99, ReleaseTensorTypeAndShapeInfo) entry(101, ReleaseCustomOpDomain)      \
    entry(130, AddSessionConfigEntry) entry(132, ReleaseAllocator)                                          \
    entry(162, KernelInfoGetAttributeArray_float) entry(163, KernelInfoGetAttributeArray_int64)             \
    entry(193, KernelContext_GetGPUComputeStream) entry(230, KernelInfo_GetInputCount)                      \
    entry(236, KernelInfoGetAttribute_tensor) entry(237, HasSessionConfigEntry)                             \
    entry(238, GetSessionConfigEntry) entry(267, ShapeInferContext_GetInputCount)                           \
    entry(268, ShapeInferContext_GetInputTypeShape) entry(269, ShapeInferContext_GetAttribute)              \
    entry(270, ShapeInferContext_SetOutputTypeShape) entry(271, SetSymbolicDimensions)                      \
    entry(272, ReadOpAttr) entry(274, KernelContext_ParallelFor)                                            \
    entry(277, KernelContext_GetScratchBuffer) entry(278, KernelInfoGetAllocator)
// clang-format on

#define OPSERVE_ORT_CHECK_PLACE(place, function) \
    static_assert(offsetof(OrtApi, function) == place * sizeof(void*), #function);
OPSERVE_ORT_API_ENTRIES(OPSERVE_ORT_CHECK_PLACE)
#undef OPSERVE_ORT_CHECK_PLACE

// One operator for inputs of one type, as registered with the runtime, which may read the members that belong
// to `version`. Optional members may be null.
struct OrtCustomOp {
    uint32_t version;
    void* unused_create_kernel;
    const char* (*GetName)(const OrtCustomOp*);
    const char* (*GetExecutionProviderType)(const OrtCustomOp*);
    ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, size_t index);
    size_t (*GetInputTypeCount)(const OrtCustomOp*);
    ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp*);
    void* unused_kernel_compute;
    void (*KernelDestroy)(void* kernel);
    OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
    OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
    OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp*);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
    // Since version 16: calls that can report an error.
    OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
    OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
    // Since 17.
    OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
    int (*GetStartVersion)(const OrtCustomOp*);
    int (*GetEndVersion)(const OrtCustomOp*);
    // Since 18: which inputs an output may share its memory with. Null: none.
    void* unused_inplace_and_alias[4];
};

}  // namespace opserve::ort_binding
