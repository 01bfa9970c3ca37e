#include "array.h"

#include <cstring>
#include <iterator>
#include <new>
#include <utility>

namespace opserve::native {
namespace {

constexpr struct {
    std::string_view name;
    uint8_t size;
    char kind;
} kDTypes[] = {
    {"bool", 1, 'b'},  {"uint8", 1, 'u'},   {"int8", 1, 'i'},    {"uint16", 2, 'u'},
    {"int16", 2, 'i'}, {"uint32", 4, 'u'},  {"int32", 4, 'i'},   {"uint64", 8, 'u'},
    {"int64", 8, 'i'}, {"float16", 2, 'f'}, {"float32", 4, 'f'}, {"float64", 8, 'f'},
};
static_assert(std::size(kDTypes) == static_cast<size_t>(DType::kFloat64) + 1);

constexpr std::align_val_t kAlignment{64};

}  // namespace

size_t item_size(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].size; }
char kind(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].kind; }
std::string_view name(DType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

std::optional<DType> parse_dtype(std::string_view name) {
    for (size_t i = 0; i < std::size(kDTypes); ++i) {
        if (kDTypes[i].name == name) return static_cast<DType>(i);
    }
    return std::nullopt;
}

int64_t count_elements(const Shape& shape) {
    // A 0 anywhere empties an array whose other sizes may be anything.
    uint64_t count = 1;
    for (const int64_t size : shape) count *= static_cast<uint64_t>(size);
    return static_cast<int64_t>(count);
}

Array Array::empty(DType dtype, Shape shape) {
    Array array;
    array.dtype = dtype;
    array.shape = std::move(shape);
    array.data = static_cast<std::byte*>(::operator new(array.bytes(), kAlignment));
    array.owner = std::shared_ptr<void>(array.data, [](void* data) { ::operator delete(data, kAlignment); });
    return array;
}

Array Array::copy() const {
    Array made = empty(dtype, shape);
    made.fortran_order = fortran_order;
    made.swapped = swapped;
    if (const size_t count = bytes()) std::memcpy(made.data, data, count);
    return made;
}

const Array* find(const Arrays& arrays, std::string_view name) {
    for (const NamedArray& each : arrays) {
        if (each.name == name) return &each.array;
    }
    return nullptr;
}

Array* find(Arrays& arrays, std::string_view name) {
    return const_cast<Array*>(find(std::as_const(arrays), name));
}

}  // namespace opserve::native
