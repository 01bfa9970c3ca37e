// Shape inference: what is known of the sizes of a node's inputs before it runs, and so of its output's.
#pragma once

#include <cstdint>

#include "api.h"

namespace opserve::ort_binding {

// A size, the name of one, or neither.
struct Dim {
    int64_t size = -1;
    const char* symbol = "";

    bool known() const { return size >= 0 || symbol[0] != '\0'; }
    // A size says more than a name, and a name more than nothing.
    Dim or_else(const Dim& other) const {
        return size >= 0 || (symbol[0] != '\0' && other.size < 0) ? *this : other;
    }
};

struct Shape {
    static constexpr int64_t kMaxDim = 64;

    // The runtime gives a rank that it does not know as 0.
    bool known() const { return dim > 0; }
    // Of a tensor that should have this many dimensions; nothing where it is known to have others.
    Dim at(int64_t axis, int64_t expected_dim) const { return dim == expected_dim ? dims[axis] : Dim(); }

    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    int64_t dim = 0;
    Dim dims[kMaxDim];
};

class ShapeInference {
  public:
    ShapeInference(const OrtApi& api, OrtShapeInferContext* context) : api_(api), context_(context) {}

    Shape input(size_t index) const;
    // INTS; false where the attribute is not there, or does not have this many.
    bool integers(const char* name, int64_t* values, int64_t count) const;
    bool has_attribute(const char* name) const;
    // The type counts as well: newer runtimes take it as the output's. Says nothing where a size is neither
    // known nor named: the runtime would take it for the size -1.
    void output(size_t index, const Shape& shape) const;

  private:
    const OrtApi& api_;
    OrtShapeInferContext* context_;
};

}  // namespace opserve::ort_binding
