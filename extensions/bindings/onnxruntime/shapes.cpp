#include "shapes.h"

namespace opserve::ort_binding {

Shape ShapeInference::input(size_t index) const {
    Shape shape;
    size_t count = 0;
    if (!succeeded(api_, api_.ShapeInferContext_GetInputCount(context_, &count)) || index >= count)
        return shape;
    // The context owns it and the names it returns.
    OrtTensorTypeAndShapeInfo* info = nullptr;
    if (!succeeded(api_, api_.ShapeInferContext_GetInputTypeShape(context_, index, &info))) return shape;
    if (!succeeded(api_, api_.GetTensorElementType(info, &shape.type))) return shape;
    size_t dim = 0;
    if (!succeeded(api_, api_.GetDimensionsCount(info, &dim)) || dim > Shape::kMaxDim) return shape;
    int64_t sizes[Shape::kMaxDim];
    const char* symbols[Shape::kMaxDim] = {};
    if (!succeeded(api_, api_.GetDimensions(info, sizes, dim)) ||
        !succeeded(api_, api_.GetSymbolicDimensions(info, symbols, dim))) {
        return shape;
    }
    for (size_t i = 0; i < dim; ++i) {
        shape.dims[i].size = sizes[i];
        if (sizes[i] < 0 && symbols[i] != nullptr) shape.dims[i].symbol = symbols[i];
    }
    shape.dim = static_cast<int64_t>(dim);
    return shape;
}

bool ShapeInference::has_attribute(const char* name) const {
    const OrtOpAttr* attribute = nullptr;
    return succeeded(api_, api_.ShapeInferContext_GetAttribute(context_, name, &attribute));
}

bool ShapeInference::integers(const char* name, int64_t* values, int64_t count) const {
    const OrtOpAttr* attribute = nullptr;
    if (!succeeded(api_, api_.ShapeInferContext_GetAttribute(context_, name, &attribute))) return false;
    const size_t bytes = static_cast<size_t>(count) * sizeof(int64_t);
    size_t read = 0;
    return succeeded(api_, api_.ReadOpAttr(attribute, ORT_OP_ATTR_INTS, values, bytes, &read)) &&
           read == bytes;
}

void ShapeInference::output(size_t index, const Shape& shape) const {
    int64_t sizes[Shape::kMaxDim];
    const char* symbols[Shape::kMaxDim];
    for (int64_t i = 0; i < shape.dim; ++i) {
        if (!shape.dims[i].known()) return;
        sizes[i] = shape.dims[i].size;
        symbols[i] = shape.dims[i].symbol;
    }
    const size_t dim = static_cast<size_t>(shape.dim);
    OrtTensorTypeAndShapeInfo* info = nullptr;
    if (!succeeded(api_, api_.CreateTensorTypeAndShapeInfo(&info))) return;
    // The runtime reports a shape that contradicts the model's.
    if (succeeded(api_, api_.SetTensorElementType(info, shape.type)) &&
        succeeded(api_, api_.SetDimensions(info, sizes, dim)) &&
        succeeded(api_, api_.SetSymbolicDimensions(info, symbols, dim))) {
        succeeded(api_, api_.ShapeInferContext_SetOutputTypeShape(context_, index, info));
    }
    api_.ReleaseTensorTypeAndShapeInfo(info);
}

}  // namespace opserve::ort_binding
