// Arrays in NumPy's own file formats: .npy (NEP 1, versions 1 to 3) and uncompressed .npz. It does not know
// about any tensor library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace opserve::native {

struct NpyArray {
    // As in numpy.dtype.kind: 'b' bool, 'i' and 'u' integers, 'f' floating point, 'c' complex.
    char kind = 'f';
    int64_t item_size = 4;
    // The first index varies fastest in memory.
    bool fortran_order = false;
    std::vector<int64_t> shape;

    // The elements, in this machine's byte order, begin at `offset`.
    std::vector<char> storage;
    size_t offset = 0;

    const char* data() const { return storage.data() + offset; }
    char* data() { return storage.data() + offset; }
    size_t size() const { return storage.size() - offset; }
};

// Throws std::runtime_error, one line with the path and the reason, for a file that cannot be read, is not an
// .npy file, is truncated or longer than its header says, or contains elements other than numbers.
NpyArray read_npy(const std::string& path);

// The same for bytes in memory; `name` is used in messages.
NpyArray parse_npy(std::vector<char> bytes, const std::string& name);

// The whole file appears at once, or not at all. Both throw std::runtime_error with the path and the reason.
void write_npy(const std::string& path, const NpyArray& array);
void write_npz(const std::string& path, const std::vector<std::pair<std::string, NpyArray>>& arrays);

}  // namespace opserve::native
