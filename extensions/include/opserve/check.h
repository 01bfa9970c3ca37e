// Building blocks of the argument checks. Each failure names the operator, the argument, what was expected
// and what was given.
#pragma once

#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::check {

const char* dtype_name(DType dtype);

Status rank(const char* op, const char* name, const TensorArg& tensor, int64_t expected);

// `meaning` names the size in letters: "n", "n+1".
Status size(const char* op, const char* name, const TensorArg& tensor, int64_t axis, const char* meaning,
            int64_t expected);

Status floating(const char* op, const char* name, const TensorArg& tensor);
Status same_dtype(const char* op, const char* name, const TensorArg& tensor, const char* other_name,
                  const TensorArg& other);
Status same_device(const char* op, const char* name, const TensorArg& tensor, const char* other_name,
                   const TensorArg& other);

// An optional vector: null, or `expected` elements with the dtype and device of another tensor.
Status optional_vector(const char* op, const char* name, const TensorArg* tensor, const char* other_name,
                       const TensorArg& other, const char* meaning, int64_t expected);

// An index: int32 or int64.
Status index(const char* op, const char* name, const TensorArg& tensor);

// `grad`, the gradient of a result [n, k], with the dtype and device of another tensor.
Status gradient(const char* op, const TensorArg& grad, const char* other_name, const TensorArg& other,
                int64_t n, int64_t k);

// The bytes of a result with these sizes must be addressable.
Status addressable(const char* op, const char* name, const int64_t* sizes, int64_t dim, DType dtype);

// The CPU kernels exist for float32 and float64 only.
Status cpu_dtype(const char* op, const char* name, DType dtype);

}  // namespace opserve::check
