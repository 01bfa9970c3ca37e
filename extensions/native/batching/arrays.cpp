#include "arrays.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace opserve::native {
namespace {

// Copies the elements of each array to `out`, one after the other.
void copy_all(std::span<const Array* const> arrays, Array& out) {
    std::byte* end = out.data;
    for (const Array* array : arrays) {
        const size_t bytes = array->bytes();
        if (bytes > 0) std::memcpy(end, array->data, bytes);
        end += bytes;
    }
}

}  // namespace

const Array& get(const Arrays& arrays, std::string_view name) {
    const Array* array = find(arrays, name);
    if (array == nullptr) throw std::runtime_error("there is no '" + std::string(name) + "'");
    return *array;
}

std::string describe(const Shape& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(shape[i]);
    }
    return text + "]";
}

int64_t count_rows(const Array& array) {
    if (array.shape.empty()) throw std::runtime_error("len() of unsized object");
    return array.shape[0];
}

Array take_rows(const Array& array, int64_t begin, int64_t end) {
    Array rows = array;
    rows.shape[0] = 1;
    const size_t row_bytes = rows.bytes();
    rows.shape[0] = end - begin;
    rows.data += static_cast<size_t>(begin) * row_bytes;
    return rows;
}

Array take_row(const Array& array, int64_t index) {
    Array row = array;
    row.shape.erase(row.shape.begin());
    row.data += static_cast<size_t>(index) * row.bytes();
    return row;
}

Array concatenate(std::span<const Array* const> arrays) {
    const Array& first = *arrays[0];
    Shape shape = first.shape;
    count_rows(first);
    shape[0] = 0;
    for (const Array* array : arrays) {
        if (array->dtype != first.dtype || array->shape.size() != shape.size() ||
            !std::equal(shape.begin() + 1, shape.end(), array->shape.begin() + 1)) {
            throw std::runtime_error("arrays of different dtypes or shapes cannot be joined");
        }
        shape[0] += array->shape[0];
    }
    Array out = Array::empty(first.dtype, std::move(shape));
    copy_all(arrays, out);
    return out;
}

Array stack(std::span<const Array* const> arrays) {
    const Array& first = *arrays[0];
    for (const Array* array : arrays) {
        if (array->dtype != first.dtype || array->shape != first.shape) {
            throw std::runtime_error("arrays of different dtypes or shapes cannot be joined");
        }
    }
    Shape shape;
    shape.reserve(first.shape.size() + 1);
    shape.push_back(static_cast<int64_t>(arrays.size()));
    shape.insert(shape.end(), first.shape.begin(), first.shape.end());
    Array out = Array::empty(first.dtype, std::move(shape));
    copy_all(arrays, out);
    return out;
}

}  // namespace opserve::native
