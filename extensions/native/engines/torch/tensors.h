// Tensors of PyTorch and arrays of the worker: both ways without a copy of an element on the processor.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "../../common/array.h"

namespace opserve::native {

// The dtype of the arrays that hold such tensors, or none.
std::optional<DType> to_dtype(at::ScalarType type);

// The name that Python has for a dtype: "float32".
std::string dtype_name(at::ScalarType type);

// Returns a tensor on the processor that shares the memory of an array, and keeps it alive for as long as it
// lives: a model may keep its inputs.
at::Tensor to_tensor(const Array& array);

// Returns an array that shares the memory of a tensor on the processor, or that of a copy in C order, and
// keeps it alive. Throws std::runtime_error for a tensor that no array can be, such as one of bfloat16 or a
// sparse one.
Array to_array(const at::Tensor& tensor);

}  // namespace opserve::native
