#include "npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "codecs/npy_header.h"
#include "codecs/zip_writer.h"
#include "opserve/tensor.h"

namespace opserve::native {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic("\x93NUMPY", 6);
// A header of numbers takes a hundred bytes; NumPy itself refuses more than 10,000.
constexpr size_t kLongestHeader = 10000;

[[noreturn]] void fail(const std::string& name, const std::string& reason) {
    throw std::runtime_error(name + ": " + reason);
}

// Reads what the header's text says into `array`; returns whether the elements are in the other byte order.
bool read_header(std::string_view text, const std::string& name, NpyArray& array) {
    NpyHeader header;
    try {
        header = parse_npy_header(text);
    } catch (const BadNpyHeader& error) {
        switch (error.reason()) {
            case BadNpyHeader::Reason::kFields:
                fail(name, "structured dtypes are not supported");
            case BadNpyHeader::Reason::kTooLarge:
                fail(name, "the header specifies a size that does not fit in 63 bits");
            default:
                fail(name, "its header is malformed");
        }
    }
    const std::optional<NpyType> type = parse_npy_type(header.descr);
    if (!type) {
        fail(name,
             "dtype '" + header.descr + "' is not supported, only booleans, integers, floats and complex");
    }
    array.kind = type->kind;
    array.item_size = type->item_size;
    array.fortran_order = header.fortran_order;
    array.shape = std::move(header.shape);
    return type->swapped;
}

void swap_bytes(NpyArray& array) {
    // Each half of a complex number is swapped separately.
    const int64_t width = array.kind == 'c' ? array.item_size / 2 : array.item_size;
    for (char *item = array.data(), *end = item + array.size(); item < end; item += width) {
        std::reverse(item, item + width);
    }
}

std::string encode_header(const NpyArray& array) {
    return make_npy_header({array.kind, static_cast<int>(array.item_size), false}, array.shape);
}

// A file that is written under another name in the same folder, and renamed when it is complete.
class File {
  public:
    explicit File(const std::string& path) : path_(path), part_(path + ".part") {
        file_ = std::fopen(part_.c_str(), "wb");
        if (file_ == nullptr) fail_with_errno();
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (file_ != nullptr) std::fclose(file_);
        if (!done_) std::remove(part_.c_str());
    }

    void write(const void* bytes, size_t count) {
        if (std::fwrite(bytes, 1, count, file_) != count) fail_with_errno();
    }

    void close() {
        const bool closed = std::fclose(std::exchange(file_, nullptr)) == 0;
        if (!closed || std::rename(part_.c_str(), path_.c_str()) != 0) fail_with_errno();
        done_ = true;
    }

  private:
    [[noreturn]] void fail_with_errno() {
        fail(path_, std::string("cannot be written: ") + std::strerror(errno));
    }

    std::string path_, part_;
    std::FILE* file_ = nullptr;
    bool done_ = false;
};

uint32_t crc32(uint32_t crc, const char* bytes, size_t count) {
    static const std::array<uint32_t, 256> table = [] {
        std::array<uint32_t, 256> entries{};
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320U : 0U);
            entries[i] = value;
        }
        return entries;
    }();
    crc = ~crc;
    for (size_t i = 0; i < count; ++i) crc = table[(crc ^ static_cast<uint8_t>(bytes[i])) & 0xff] ^ crc >> 8;
    return ~crc;
}

}  // namespace

NpyArray parse_npy(std::vector<char> bytes, const std::string& name) {
    const std::string_view view(bytes.data(), bytes.size());
    if (view.substr(0, kMagic.size()) != kMagic) fail(name, "not an .npy file");
    const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<uint8_t>(bytes[at])); };
    const size_t major = bytes.size() > 6 ? byte(6) : 0;
    const size_t start = major == 1 ? 10 : 12;
    if (bytes.size() < start) fail(name, "truncated in its header");
    if (major < 1 || major > 3 || byte(7) != 0) {
        fail(name, "version " + std::to_string(major) + "." + std::to_string(byte(7)) +
                       " of the format is not supported, only 1.0, 2.0 and 3.0");
    }
    size_t length = byte(8) | byte(9) << 8;
    if (major > 1) length |= byte(10) << 16 | byte(11) << 24;
    if (length > kLongestHeader)
        fail(name, "the header is longer than " + std::to_string(kLongestHeader) + " bytes");
    if (bytes.size() - start < length) fail(name, "truncated in its header");

    NpyArray array;
    const bool swapped = read_header(view.substr(start, length), name, array);
    int64_t expected = array.item_size;
    // A size of 0 empties the array, but the other sizes must be valid on their own.
    for (const int64_t size : array.shape) {
        if (!checked_multiply(expected, std::max<int64_t>(size, 1), &expected)) {
            fail(name, "the header specifies sizes whose product does not fit in 2^63 bytes");
        }
    }
    if (std::find(array.shape.begin(), array.shape.end(), 0) != array.shape.end()) expected = 0;
    array.offset = start + length;
    array.storage = std::move(bytes);
    if (static_cast<uint64_t>(expected) != array.size()) {
        fail(name, "the header specifies " + std::to_string(expected) +
                       " bytes of elements, but the file contains " + std::to_string(array.size()));
    }
    if (swapped) swap_bytes(array);
    if (array.kind == 'b') {
        for (char *item = array.data(), *end = item + array.size(); item < end; ++item) *item = *item != 0;
    }
    return array;
}

NpyArray read_npy(const std::string& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) fail(path, "is a folder");
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) fail(path, std::string("cannot be read: ") + std::strerror(errno));
    std::vector<char> bytes;
    // In pieces: what the file contains counts, not the size it reports.
    constexpr size_t piece = size_t{1} << 20;
    size_t got = piece;
    while (got == piece) {
        const size_t had = bytes.size();
        bytes.resize(had + piece);
        got = std::fread(bytes.data() + had, 1, piece, file);
        bytes.resize(had + got);
    }
    const bool failed = std::ferror(file) != 0;
    const int reason = errno;
    std::fclose(file);
    if (failed) fail(path, std::string("cannot be read: ") + std::strerror(reason));
    return parse_npy(std::move(bytes), path);
}

void write_npy(const std::string& path, const NpyArray& array) {
    File file(path);
    const std::string header = encode_header(array);
    file.write(header.data(), header.size());
    file.write(array.data(), array.size());
    file.close();
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, NpyArray>>& arrays) {
    constexpr size_t most = std::numeric_limits<uint32_t>::max();
    File file(path);
    ZipWriter writer;
    size_t position = 0;
    for (const auto& [key, array] : arrays) {
        const std::string header = encode_header(array), name = key + ".npy";
        const size_t size = header.size() + array.size();
        position += ZipWriter::kLocalBytes + name.size() + size;
        // The format's 32-bit fields; .npy has no such limit.
        if (array.size() > most || position > most || name.size() > 0xffff || arrays.size() > 0xffff) {
            fail(path, "an .npz file holds less than 4 GiB; write .npy files instead");
        }
        const uint32_t crc = crc32(crc32(0, header.data(), header.size()), array.data(), array.size());
        std::string before;
        writer.begin_file(before, name, crc, static_cast<uint32_t>(size));
        before += header;
        file.write(before.data(), before.size());
        file.write(array.data(), array.size());
    }
    std::string directory;
    writer.end(directory);
    file.write(directory.data(), directory.size());
    file.close();
}

}  // namespace opserve::native
