// Arrays in memory that somebody keeps alive. It does not know about any runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace opserve::native {

enum class DType : uint8_t {
    kBool,
    kUInt8,
    kInt8,
    kUInt16,
    kInt16,
    kUInt32,
    kInt32,
    kUInt64,
    kInt64,
    kFloat16,
    kFloat32,
    kFloat64,
};

size_t item_size(DType dtype);
// As in numpy.dtype.kind: 'b' bool, 'i' and 'u' integers, 'f' floating point.
char kind(DType dtype);
// As NumPy has it: "float32". `parse_dtype` is its inverse.
std::string_view name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

using Shape = std::vector<int64_t>;

// The number of elements; 1 for no dimensions. The caller has checked that it does not overflow.
int64_t count_elements(const Shape& shape);

// An array, or a view of one: copying it copies no element. The elements are in C order and in this machine's
// byte order, unless `fortran_order` or `swapped` say otherwise, which only arrays read from a file are; they
// need not be aligned. What a model or the rest of the worker gets is in C order, native and aligned (see
// `convert`).
struct Array {
    DType dtype = DType::kFloat32;
    bool fortran_order = false;
    bool swapped = false;  // in the other byte order
    Shape shape;
    std::byte* data = nullptr;
    // Keeps `data` alive: the body of a request, a tensor of a runtime, or memory of its own.
    std::shared_ptr<void> owner;

    int64_t size() const { return count_elements(shape); }
    size_t bytes() const { return static_cast<size_t>(size()) * item_size(dtype); }
    std::span<std::byte> span() const { return {data, bytes()}; }
    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(data);
    }

    // Returns an array in memory of its own, aligned to 64 bytes and not initialized.
    static Array empty(DType dtype, Shape shape);
    // Returns a copy in memory of its own, in the same order.
    Array copy() const;
};

// Named arrays in the order of a signature or of a request. Few enough for a linear search.
struct NamedArray {
    std::string_view name;  // of the signature, which outlives it
    Array array;
};
using Arrays = std::vector<NamedArray>;

// Returns the array with this name, or null.
const Array* find(const Arrays& arrays, std::string_view name);
Array* find(Arrays& arrays, std::string_view name);

}  // namespace opserve::native
