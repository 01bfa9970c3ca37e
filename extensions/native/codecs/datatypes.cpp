#include "datatypes.h"

namespace opserve::native {

namespace {

constexpr Datatype kDatatypes[] = {
    {"FP32", DType::kFloat32},       {"INT64", DType::kInt64},   {"FP64", DType::kFloat64},
    {"INT32", DType::kInt32},        {"BOOL", DType::kBool},     {"UINT8", DType::kUInt8},
    {"INT8", DType::kInt8},          {"UINT16", DType::kUInt16}, {"INT16", DType::kInt16},
    {"UINT32", DType::kUInt32},      {"FP16", DType::kFloat16},  {"UINT64", DType::kUInt64},
    {"BF16", DType::kFloat32, true},
};

}  // namespace

const Datatype* find_datatype(std::string_view name) {
    for (const Datatype& each : kDatatypes) {
        if (each.name == name) return &each;
    }
    return nullptr;
}

std::string_view datatype_name(DType dtype) {
    for (const Datatype& each : kDatatypes) {
        if (each.dtype == dtype) return each.name;
    }
    return {};  // every dtype is there
}

}  // namespace opserve::native
