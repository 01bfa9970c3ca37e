// Compiles if bindings/onnxruntime/abi.h agrees with the runtime's own header, of any version.
#include "onnxruntime_abi.h"

#include "../bindings/onnxruntime/abi.h"

namespace {

namespace ours = opserve::ort_binding;

OPSERVE_ORT_API_ENTRIES(SAME_FUNCTION)

SAME_MEMBER(OrtApiBase, GetApi)
SAME_MEMBER(OrtApiBase, GetVersionString)

SAME_MEMBER(OrtAllocator, version)
SAME_MEMBER(OrtAllocator, Alloc)
SAME_MEMBER(OrtAllocator, Free)

SAME_MEMBER(OrtCustomOp, version)
SAME_MEMBER(OrtCustomOp, GetName)
SAME_MEMBER(OrtCustomOp, GetExecutionProviderType)
SAME_MEMBER(OrtCustomOp, GetInputType)
SAME_MEMBER(OrtCustomOp, GetInputTypeCount)
SAME_MEMBER(OrtCustomOp, GetOutputType)
SAME_MEMBER(OrtCustomOp, GetOutputTypeCount)
SAME_MEMBER(OrtCustomOp, KernelDestroy)
SAME_MEMBER(OrtCustomOp, GetInputCharacteristic)
SAME_MEMBER(OrtCustomOp, GetOutputCharacteristic)
SAME_MEMBER(OrtCustomOp, GetInputMemoryType)
SAME_MEMBER(OrtCustomOp, GetVariadicInputMinArity)
SAME_MEMBER(OrtCustomOp, GetVariadicInputHomogeneity)
SAME_MEMBER(OrtCustomOp, GetVariadicOutputMinArity)
SAME_MEMBER(OrtCustomOp, GetVariadicOutputHomogeneity)
SAME_MEMBER(OrtCustomOp, CreateKernelV2)
SAME_MEMBER(OrtCustomOp, KernelComputeV2)
SAME_MEMBER(OrtCustomOp, InferOutputShapeFn)
SAME_MEMBER(OrtCustomOp, GetStartVersion)
SAME_MEMBER(OrtCustomOp, GetEndVersion)
// The members of version 18 that are null, and nothing that this version may read beyond them.
static_assert(offsetof(ours::OrtCustomOp, unused_inplace_and_alias) == offsetof(OrtCustomOp, GetMayInplace));
static_assert(sizeof(ours::OrtCustomOp) == offsetof(OrtCustomOp, ReleaseAliasMap) + sizeof(void*));

static_assert(sizeof(ONNXTensorElementDataType) == sizeof(ours::ONNXTensorElementDataType));
static_assert(sizeof(OrtErrorCode) == sizeof(ours::OrtErrorCode));
SAME_VALUE(ORT_OK)
SAME_VALUE(ORT_FAIL)
SAME_VALUE(ORT_INVALID_ARGUMENT)
SAME_VALUE(ORT_RUNTIME_EXCEPTION)
SAME_VALUE(ORT_EP_FAIL)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64)
SAME_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16)
SAME_VALUE(OrtMemTypeDefault)
SAME_VALUE(ORT_OP_ATTR_INTS)
SAME_VALUE(INPUT_OUTPUT_REQUIRED)
SAME_VALUE(INPUT_OUTPUT_OPTIONAL)

}  // namespace
