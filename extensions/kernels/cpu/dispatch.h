// The entry points of operators are templates of the dtypes of a call.
#pragma once

#include <cstdint>

#include "opserve/check.h"
#include "opserve/status.h"
#include "opserve/tensor.h"
#include "opserve/workspace.h"

namespace opserve::cpu {

// Calls `function` with a number of a dtype, and refuses dtypes without kernels; `name` is the argument's.
template <class Function>
Status for_dtype(const char* op, const char* name, DType dtype, const Function& function) {
    OPSERVE_RETURN_IF_ERROR(check::cpu_dtype(op, name, dtype));
    return dtype == DType::kFloat32 ? function(float{}) : function(double{});
}

// Calls `function` with an index of a dtype.
template <class Function>
Status for_index_dtype(DType dtype, const Function& function) {
    return dtype == DType::kInt32 ? function(int32_t{}) : function(int64_t{});
}

// Sets `bytes` to the size of the workspace that `divide` divides.
template <class Function>
Status measure_workspace(const char* op, int64_t* bytes, const Function& divide) {
    Workspace workspace(nullptr);
    divide(workspace);
    return workspace.size(op, bytes);
}

}  // namespace opserve::cpu
