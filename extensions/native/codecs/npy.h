// Reads .npy and .npz in place and writes .npz, as handlers/codecs/npy.py does: the arrays are views of the
// request's own bytes. What a file says about itself is checked against the bytes that are there before an
// array is made of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../common/array.h"
#include "budget.h"
#include "request.h"

namespace opserve::native {

inline constexpr std::string_view kNpyMagic = "\x93NUMPY";
inline constexpr std::string_view kNpyType = "application/x-npy";
inline constexpr std::string_view kNpzType = "application/x-npz";

// -- npy.cpp --

// Returns the array in an .npy file, as a view of `content` in its byte order and layout. Throws
// RequestError.
Array read_npy(const Buffer& content, std::optional<std::string_view> field);

// Returns an array of `shape` that views exactly the bytes of `data`. Throws RequestError: more or fewer
// bytes than it needs, or a bool other than 0 and 1.
Array view_as_array(const Buffer& data, DType dtype, const Shape& shape,
                    std::optional<std::string_view> field);

// Returns the same elements in another shape of as many. Throws RequestError where NumPy cannot have such a
// shape (an empty array whose other sizes overflow).
Array reshape(Array array, const Shape& shape, std::optional<std::string_view> field);

// -- npz.cpp --

// A file of a zip archive, as its directory has it.
struct NpzMember {
    std::string name;             // without .npy; UTF-8
    uint64_t offset = 0;          // of its local header
    uint64_t packed_bytes = 0;    // in the archive
    uint64_t unpacked_bytes = 0;  // once it is unpacked; reading allocates as many, unless it is stored
    uint32_t crc = 0;
    uint16_t method = 0;  // 0: stored, 8: deflated
};

// Returns the members, in the order of the file, none of them unpacked yet. Throws RequestError: damaged, a
// name twice, encrypted, compressed by other means than deflate, or (413) more than `max_bytes` together once
// unpacked.
std::vector<NpzMember> list_npz(const Buffer& content, std::optional<std::string_view> field,
                                int64_t max_bytes);

// Returns one array: a view of `content` if it is stored, of newly unpacked bytes if it is deflated. Throws
// RequestError.
Array read_member(const Buffer& content, const NpzMember& member, std::string_view field);

// Returns an uncompressed .npz of arrays in C order, with the bytes that handlers/codecs/npy.py writes.
std::string write_npz(const Arrays& arrays);

}  // namespace opserve::native
