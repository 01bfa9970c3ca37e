// Shape inference: what is known about the sizes of a node's inputs before it runs, and so about its
// output's.
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

    // The runtime reports an unknown rank as 0.
    bool known() const { return dim > 0; }
    // The size of an axis if the rank is as expected, else unknown.
    Dim at(int64_t axis, int64_t expected_dim) const { return dim == expected_dim ? dims[axis] : Dim(); }

    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    int64_t dim = 0;
    Dim dims[kMaxDim];
};

class ShapeInference {
  public:
    ShapeInference(const OrtApi& api, OrtShapeInferContext* context) : api_(api), context_(context) {}

    Shape input(size_t index) const;
    // Reads INTS; false if the attribute is absent or does not have this many.
    bool integers(const char* name, int64_t* values, int64_t count) const;
    bool has_attribute(const char* name) const;
    // Sets an output's shape and type: newer runtimes take the type as the output's. Does nothing if a size
    // is neither known nor named: the runtime would take it for the size -1.
    void output(size_t index, const Shape& shape) const;

  private:
    const OrtApi& api_;
    OrtShapeInferContext* context_;
};

}  // namespace opserve::ort_binding
