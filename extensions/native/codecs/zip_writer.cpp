#include "zip_writer.h"

#include <algorithm>

namespace opserve::native {
namespace {

constexpr uint16_t kVersion = 20;
constexpr uint16_t kUtf8 = 0x800;
constexpr uint16_t kFirstDay = 1 << 5 | 1;  // of 1980

void put16(std::string& out, uint32_t value) {
    out += static_cast<char>(value & 0xff);
    out += static_cast<char>(value >> 8 & 0xff);
}

void put32(std::string& out, uint32_t value) {
    put16(out, value & 0xffff);
    put16(out, value >> 16);
}

// The fields of a file that its local header and the directory share.
void put_file(std::string& out, std::string_view name, uint32_t crc, uint32_t size) {
    const bool is_ascii =
        std::all_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    put16(out, kVersion);  // needed to read it
    put16(out, is_ascii ? 0 : kUtf8);
    put16(out, 0);  // stored
    put16(out, 0);  // time
    put16(out, kFirstDay);
    put32(out, crc);
    put32(out, size);  // packed
    put32(out, size);
    put16(out, static_cast<uint32_t>(name.size()));
    put16(out, 0);  // bytes of extra fields
}

}  // namespace

void ZipWriter::begin_file(std::string& out, std::string_view name, uint32_t crc, uint32_t size) {
    out += "PK\3\4";
    put_file(out, name, crc, size);
    out += name;

    directory_ += "PK\1\2";
    put16(directory_, kVersion);  // that wrote it
    put_file(directory_, name, crc, size);
    put16(directory_, 0);  // bytes of comment
    put16(directory_, 0);  // disk
    put16(directory_, 0);  // attributes
    put32(directory_, 0);
    put32(directory_, position_);
    directory_ += name;

    position_ += static_cast<uint32_t>(kLocalBytes + name.size()) + size;
    ++count_;
}

void ZipWriter::end(std::string& out) const {
    out += directory_;
    out += "PK\5\6";
    put32(out, 0);  // disks
    put16(out, count_);
    put16(out, count_);
    put32(out, static_cast<uint32_t>(directory_.size()));
    put32(out, position_);
    put16(out, 0);  // bytes of comment
}

}  // namespace opserve::native
