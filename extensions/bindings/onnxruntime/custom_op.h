// An operator and a device, as ONNX Runtime's custom operator. Nothing here throws: this binding is compiled
// without exceptions.
#pragma once

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <mutex>
#include <new>
#include <utility>

#include "attributes.h"
#include "kernel_call.h"
#include "operators.h"
#include "opserve/check.h"
#include "registration.h"
#include "shapes.h"

namespace opserve::ort_binding {

// What the runtime keeps for a node. Runs of a node may overlap, so it holds no state of a run.
template <class Op, class Device>
class Kernel {
  public:
    static OrtStatus* create(const OrtApi& api, const OrtKernelInfo* info, DType dtype, void** out) noexcept {
        *out = nullptr;
        TensorArg typed{};
        typed.dtype = dtype;
        const char* name = Op::kInputs[Op::kTypedInput].name;
        OPSERVE_ORT_RETURN_IF_ERROR(to_ort(api, check::floating(Op::kOp, name, typed)));
        OPSERVE_ORT_RETURN_IF_ERROR(to_ort(api, Device::check_dtype(Op::kOp, name, dtype)));
        Kernel* kernel = new (std::nothrow) Kernel(api);
        if (kernel == nullptr) {
            return to_ort(api,
                          Status::out_of_memory("opserve::%s: out of memory: cannot create a node", Op::kOp));
        }
        OrtStatus* status = kernel->read(info, dtype);
        if (status != nullptr) {
            delete kernel;
            return status;
        }
        *out = kernel;
        return nullptr;
    }

    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    ~Kernel() {
        if (allocator_ != nullptr) api_.ReleaseAllocator(allocator_);
    }

    OrtStatus* compute(OrtKernelContext* context) noexcept {
        KernelCall call(api_, Op::kOp, allocator_, input_count_, Device::kDeviceType, context);
        return op_.template compute<Device>(call);
    }

  private:
    explicit Kernel(const OrtApi& api) : api_(api) {}

    OrtStatus* read(const OrtKernelInfo* info, DType dtype) {
        OPSERVE_ORT_RETURN_IF_ERROR(api_.KernelInfo_GetInputCount(info, &input_count_));
        // Of the provider that runs the node.
        OPSERVE_ORT_RETURN_IF_ERROR(api_.KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator_));
        return op_.read(api_, Attributes(api_, info, allocator_), dtype);
    }

    const OrtApi& api_;
    Op op_;
    OrtAllocator* allocator_ = nullptr;
    size_t input_count_ = 0;
};

// The input with the type of a result that is not floating-point: an index. Most operators have none.
constexpr size_t kNoInput = std::numeric_limits<size_t>::max();
template <class Op>
constexpr size_t kIndexInput = [] {
    for (const size_t input : Op::kOutputs) {
        if (input != Op::kTypedInput) return input;
    }
    return kNoInput;
}();
constexpr ONNXTensorElementDataType kIndexTypes[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
                                                     ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64};

// An operator as registered with the runtime. It takes one object for each combination of types that the
// results can have; the types of the other inputs are left open, so that our checks refuse wrong ones.
template <class Op, class Device>
class CustomOp : public OrtCustomOp {
  public:
    CustomOp(const OrtApi& api, ONNXTensorElementDataType type, ONNXTensorElementDataType index_type)
        : OrtCustomOp{}, api_(api), type_(type), index_type_(index_type) {
        version = kApiVersion;
        GetName = [](const OrtCustomOp*) { return Op::kName; };
        GetExecutionProviderType = [](const OrtCustomOp*) { return Device::kProvider; };
        GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Op::kInputs); };
        GetInputType = [](const OrtCustomOp* op, size_t index) { return self(op).type_of_input(index); };
        GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
            return Op::kInputs[index].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
        };
        GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
        GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Op::kOutputs); };
        GetOutputType = [](const OrtCustomOp* op, size_t index) {
            return self(op).type_of_input(Op::kOutputs[index]);
        };
        GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
        // None is variadic; these are the runtime's defaults.
        const auto one = [](const OrtCustomOp*) { return 1; };
        GetVariadicInputMinArity = GetVariadicInputHomogeneity = one;
        GetVariadicOutputMinArity = GetVariadicOutputHomogeneity = one;
        GetStartVersion = one;
        GetEndVersion = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
        CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                            void** kernel) {
            return Kernel<Op, Device>::create(*api, info, to_dtype(self(op).type_), kernel);
        };
        KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
            return static_cast<Kernel<Op, Device>*>(kernel)->compute(context);
        };
        KernelDestroy = [](void* kernel) { delete static_cast<Kernel<Op, Device>*>(kernel); };
        InferOutputShapeFn = [](const OrtCustomOp* op, OrtShapeInferContext* context) -> OrtStatus* {
            Op::infer(ShapeInference(self(op).api_, context));
            return nullptr;
        };
    }

  private:
    static const CustomOp& self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

    ONNXTensorElementDataType type_of_input(size_t index) const {
        if (index == Op::kTypedInput) return type_;
        return index == kIndexInput<Op> ? index_type_ : ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    }

    const OrtApi& api_;
    ONNXTensorElementDataType type_, index_type_;
};

template <class Op, class Device>
OrtStatus* add_operator(const OrtApi& api, bool infer_absent, OrtCustomOpDomain* domain) {
    constexpr size_t index_types = kIndexInput<Op> == kNoInput ? 1 : std::size(kIndexTypes);
    constexpr size_t count = std::size(Device::kTypes) * index_types;
    static auto operators = [&]<size_t... i>(std::index_sequence<i...>) {
        return std::array<CustomOp<Op, Device>, count>{
            CustomOp<Op, Device>(api, Device::kTypes[i / index_types], kIndexTypes[i % index_types])...};
    }(std::make_index_sequence<count>());
    constexpr bool any_optional =
        std::any_of(std::begin(Op::kInputs), std::end(Op::kInputs), [](auto& spec) { return spec.optional; });
    for (CustomOp<Op, Device>& op : operators) {
        if (any_optional && !infer_absent) op.InferOutputShapeFn = nullptr;
        OPSERVE_ORT_RETURN_IF_ERROR(api.CustomOpDomain_Add(domain, &op));
    }
    return nullptr;
}

// Without `infer_absent`, shapes are not inferred for operators with optional inputs.
template <class Device>
OrtStatus* add_operators(const OrtApi& api, bool infer_absent, OrtCustomOpDomain* domain) {
#define OPSERVE_ADD(Operator, name, schema, backward_schema) \
    OPSERVE_ORT_RETURN_IF_ERROR((add_operator<Operator, Device>(api, infer_absent, domain)));
    OPSERVE_OPERATORS(OPSERVE_ADD)
#undef OPSERVE_ADD
    return nullptr;
}

// What a library's RegisterCustomOps does. A session takes a domain once, so a library for another device
// includes the CPU operators and is registered instead of the CPU library. `library` is its name.
template <class... Devices>
OrtStatus* register_operators(const char* library, OrtSessionOptions* options,
                              const OrtApiBase* base) noexcept {
    const OrtApi* api = base->GetApi(kApiVersion);
    if (api == nullptr) {
        const OrtApi* oldest = base->GetApi(1);
        if (oldest == nullptr) return nullptr;
        return to_ort(*oldest, Status::invalid_argument(
                                   "opserve: the operators need ONNX Runtime 1.%u or newer, this is %s",
                                   static_cast<unsigned>(kApiVersion), base->GetVersionString()));
    }
    bool registered = false;
    OPSERVE_ORT_RETURN_IF_ERROR(note_library(*api, library, options, &registered));
    if (registered) return nullptr;

    // The runtime keeps pointers to the domain in every session, so it is never released.
    static std::mutex mutex;
    static OrtCustomOpDomain* domain = nullptr;
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (domain == nullptr) {
            OrtCustomOpDomain* fresh = nullptr;
            OPSERVE_ORT_RETURN_IF_ERROR(api->CreateCustomOpDomain("opserve", &fresh));
            const bool infer_absent = infers_with_absent_inputs(base->GetVersionString());
            OrtStatus* status = nullptr;
            ((status = status != nullptr ? status : add_operators<Devices>(*api, infer_absent, fresh)), ...);
            if (status != nullptr) {
                api->ReleaseCustomOpDomain(fresh);
                return status;
            }
            domain = fresh;
        }
    }
    return api->AddCustomOpDomain(options, domain);
}

}  // namespace opserve::ort_binding
