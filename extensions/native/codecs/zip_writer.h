// The parts of a zip archive around the bytes of its files, which are stored, not compressed, and dated 1980,
// so that the same files give the same archive. No file may begin, and the archive may not end, beyond 4 GiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace opserve::native {

class ZipWriter {
  public:
    // Appends to `out` what precedes the `size` bytes of a file with this name (UTF-8) and this CRC-32.
    void begin_file(std::string& out, std::string_view name, uint32_t crc, uint32_t size);
    // Appends the directory, which follows the bytes of the last file.
    void end(std::string& out) const;

    // What there is in addition to the bytes of the files and, in both places, their names.
    static constexpr size_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22;

  private:
    std::string directory_;
    uint32_t position_ = 0;
    uint16_t count_ = 0;
};

}  // namespace opserve::native
