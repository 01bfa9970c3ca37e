// The files of an unpacked archive, read without following a link: what was checked is what is there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace opserve::native {

// An open file descriptor.
class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();

    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }
    int release();

  private:
    int number_;
};

// Reads into `out`, again after a signal; returns how many bytes, 0 at the end. Throws std::system_error.
size_t read_some(int descriptor, void* out, size_t length);

class Folder {
  public:
    // Throws ModelError.
    explicit Folder(const std::filesystem::path& path);

    // The paths of all files in it and in the folders below, relative to it. Throws ModelError: something in
    // it is neither a file nor a folder.
    std::set<std::string> list() const;

    // Opens a file by a path that `list` gave. Throws ModelError.
    Descriptor open(std::string_view name) const;

    // The content of a file directly in it, or nothing if there is none. Throws ModelError.
    std::optional<std::string> read(const std::string& name) const;

  private:
    Descriptor folder_;
};

struct HashedFile {
    std::string sha256;
    uint64_t size = 0;
};
// Throws ModelError; `name` is used in messages.
HashedFile hash_file(const Descriptor& file, std::string_view name);

}  // namespace opserve::native
