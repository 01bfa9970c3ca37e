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

// The header is a Python dictionary of three known keys. This parser reads just that, and never past the end.
class Header {
  public:
    Header(std::string_view text, const std::string& name) : text_(text), name_(name) {}

    void read(NpyArray& array, bool& swapped) {
        bool descr = false, order = false, shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string key = string();
            expect(':');
            if (key == "descr" && !std::exchange(descr, true)) {
                read_descr(array, swapped);
            } else if (key == "fortran_order" && !std::exchange(order, true)) {
                array.fortran_order = boolean();
            } else if (key == "shape" && !std::exchange(shape, true)) {
                array.shape = integers();
            } else {
                malformed();
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        skip_space();
        if (!descr || !order || !shape || !text_.empty()) malformed();
    }

  private:
    [[noreturn]] void malformed() const { fail(name_, "its header is malformed"); }

    void skip_space() {
        while (!text_.empty() && std::strchr(" \t\r\n", text_.front()) != nullptr && text_.front() != '\0') {
            text_.remove_prefix(1);
        }
    }

    bool accept(char wanted) {
        skip_space();
        if (text_.empty() || text_.front() != wanted) return false;
        text_.remove_prefix(1);
        return true;
    }

    void expect(char wanted) {
        if (!accept(wanted)) malformed();
    }

    std::string string() {
        skip_space();
        if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) malformed();
        const size_t end = text_.find(text_.front(), 1);
        if (end == std::string_view::npos) malformed();
        const std::string value(text_.substr(1, end - 1));
        text_.remove_prefix(end + 1);
        return value;
    }

    bool boolean() {
        skip_space();
        for (const bool value : {true, false}) {
            const std::string_view word = value ? "True" : "False";
            if (text_.substr(0, word.size()) == word) {
                text_.remove_prefix(word.size());
                return value;
            }
        }
        malformed();
    }

    std::vector<int64_t> integers() {
        std::vector<int64_t> values;
        expect('(');
        while (!accept(')')) {
            skip_space();
            int64_t value = 0;
            size_t digits = 0;
            for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9'; ++digits) {
                if (!checked_multiply(value, 10, &value) ||
                    !checked_add(value, text_[digits] - '0', &value)) {
                    fail(name_, "the header specifies a size that does not fit in 63 bits");
                }
            }
            if (digits == 0) malformed();
            text_.remove_prefix(digits);
            values.push_back(value);
            if (!accept(',')) {
                expect(')');
                break;
            }
        }
        return values;
    }

    void read_descr(NpyArray& array, bool& swapped) {
        skip_space();
        if (!text_.empty() && text_.front() == '[') fail(name_, "structured dtypes are not supported");
        const std::string descr = string();
        static constexpr std::string_view known[] = {"b1", "i1", "i2", "i4", "i8", "u1", "u2",
                                                     "u4", "u8", "f2", "f4", "f8", "c8", "c16"};
        const std::string_view type = std::string_view(descr).substr(std::min<size_t>(1, descr.size()));
        const bool found = std::find(std::begin(known), std::end(known), type) != std::end(known);
        const char order = found ? descr[0] : '\0';
        const bool one_byte = found && type[1] == '1' && type.size() == 2;
        if (order != '<' && order != '>' && order != '=' && !(order == '|' && one_byte)) {
            fail(name_,
                 "dtype '" + descr + "' is not supported, only booleans, integers, floats and complex");
        }
        array.kind = type[0];
        array.item_size = type == "c16" ? 16 : type[1] - '0';
        swapped = order == '>' && array.item_size > 1;
    }

    std::string_view text_;
    const std::string& name_;
};

void swap_bytes(NpyArray& array) {
    // Each half of a complex number is swapped separately.
    const int64_t width = array.kind == 'c' ? array.item_size / 2 : array.item_size;
    for (char *item = array.data(), *end = item + array.size(); item < end; item += width) {
        std::reverse(item, item + width);
    }
}

std::string encode_header(const NpyArray& array) {
    std::string shape;
    for (const int64_t size : array.shape) shape += std::to_string(size) + ", ";
    if (array.shape.size() > 1) shape.resize(shape.size() - 2);
    if (array.shape.size() == 1) shape.pop_back();
    std::string header = "{'descr': '";
    header += array.item_size == 1 ? '|' : '<';
    header += array.kind;
    header += std::to_string(array.item_size) + "', 'fortran_order': ";
    header += array.fortran_order ? "True" : "False";
    header += ", 'shape': (" + shape + "), }";
    // The elements begin at a multiple of 64 bytes.
    const size_t unpadded = kMagic.size() + 4 + header.size() + 1;
    header.append((64 - unpadded % 64) % 64, ' ');
    header += '\n';
    std::string bytes(kMagic);
    bytes += {1, 0, static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
    return bytes + header;
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

void put(std::string& bytes, uint32_t value, int width) {
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
}

// The fields of an entry that a local header and the directory of a ZIP file share: stored, not compressed,
// dated 1980 so that the same arrays give the same file.
std::string zip_entry(const std::string& name, uint32_t crc, uint32_t size) {
    std::string entry;
    put(entry, 20, 2);     // version needed
    put(entry, 0x800, 2);  // the name is UTF-8
    put(entry, 0, 2);      // stored
    put(entry, 0, 2);      // time
    put(entry, 0x21, 2);   // date
    put(entry, crc, 4);
    put(entry, size, 4);
    put(entry, size, 4);
    put(entry, static_cast<uint32_t>(name.size()), 2);
    put(entry, 0, 2);  // no extra field
    return entry;
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
    bool swapped = false;
    Header(view.substr(start, length), name).read(array, swapped);
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
    std::string directory;
    size_t position = 0;
    for (const auto& [key, array] : arrays) {
        const std::string header = encode_header(array), name = key + ".npy";
        const size_t size = header.size() + array.size(), next = position + 30 + name.size() + size;
        // The format's 32-bit fields; .npy has no such limit.
        if (array.size() > most || next > most || name.size() > 0xffff || arrays.size() > 0xffff) {
            fail(path, "an .npz file holds less than 4 GiB; write .npy files instead");
        }
        const uint32_t crc = crc32(crc32(0, header.data(), header.size()), array.data(), array.size());
        const std::string entry = zip_entry(name, crc, static_cast<uint32_t>(size));
        const std::string local = "PK\3\4" + entry + name;
        file.write(local.data(), local.size());
        file.write(header.data(), header.size());
        file.write(array.data(), array.size());
        directory += "PK\1\2";
        put(directory, 20, 2);  // version made by
        directory += entry;
        put(directory, 0, 2);  // no comment
        put(directory, 0, 2);  // first disk
        put(directory, 0, 2);
        put(directory, 0, 4);
        put(directory, static_cast<uint32_t>(position), 4);
        directory += name;
        position = next;
    }
    const uint32_t directory_size = static_cast<uint32_t>(directory.size());
    directory += "PK\5\6";
    put(directory, 0, 4);  // one disk
    put(directory, static_cast<uint32_t>(arrays.size()), 2);
    put(directory, static_cast<uint32_t>(arrays.size()), 2);
    put(directory, directory_size, 4);
    put(directory, static_cast<uint32_t>(position), 4);
    put(directory, 0, 2);  // no comment
    file.write(directory.data(), directory.size());
    file.close();
}

}  // namespace opserve::native
