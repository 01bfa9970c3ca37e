#include "shared_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <system_error>

namespace opserve::native {
namespace {

constexpr std::string_view kFolder = "/dev/shm/";  // where Linux keeps the regions
constexpr size_t kLongestKey = 255;
constexpr int64_t kLimit = int64_t{1} << 62;  // a sum of two numbers below it does not overflow
constexpr size_t kAlignment = 64;

// Whether it can be the key of a region: a file name rather than a path, and not a hidden one.
bool is_key(std::string_view text) {
    const auto is_allowed = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
               c == '_' || c == '-';
    };
    return !text.empty() && text.size() <= kLongestKey && text[0] != '.' &&
           std::all_of(text.begin(), text.end(), is_allowed);
}

std::string name_region(const Region& region, std::string_view field) {
    return "the shared memory '" + region.key + "' of '" + std::string(field) + "'";
}

[[noreturn]] void refuse_for_errno(const Region& region, std::string_view field) {
    const int error = errno;
    throw RequestError(
        name_region(region, field) + " cannot be used: " + std::system_category().message(error), field);
}

[[noreturn]] void refuse_as_too_short(const Region& region, std::string_view field) {
    throw RequestError(
        name_region(region, field) + " ends before byte " + std::to_string(region.offset + region.size),
        field);
}

// A region that has all its bytes at the moment it is opened.
class File {
  public:
    File(const Region& region, int mode, std::string_view field) {
        // Without O_NONBLOCK a pipe with that name would block the worker.
        const int flags = mode | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        const std::string path = std::string(kFolder) + region.key;
        do {
            descriptor_ = open(path.c_str(), flags);
        } while (descriptor_ < 0 && errno == EINTR);
        if (descriptor_ < 0) refuse_for_errno(region, field);
        try {
            check(region, field);
        } catch (...) {
            close(descriptor_);
            throw;
        }
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { close(descriptor_); }

    int descriptor() const { return descriptor_; }

  private:
    void check(const Region& region, std::string_view field) const {
        struct stat found{};
        if (fstat(descriptor_, &found) != 0) refuse_for_errno(region, field);
        // A second hard link may be outside the prefix.
        if (!S_ISREG(found.st_mode) || found.st_nlink != 1) {
            throw RequestError(name_region(region, field) + " is a link or not memory", field);
        }
        if (found.st_size < region.offset + region.size) refuse_as_too_short(region, field);
    }

    int descriptor_ = -1;
};

Buffer allocate(size_t size) {
    void* const data = std::aligned_alloc(
        kAlignment, std::max((size + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment);
    if (data == nullptr) throw std::bad_alloc();
    std::shared_ptr<void> owner(data, std::free);
    return {{static_cast<std::byte*>(data), size}, std::move(owner)};
}

}  // namespace

std::optional<Region> SharedMemory::find_region(const std::optional<JsonValue>& parameters,
                                                std::string_view field) const {
    if (!parameters) return std::nullopt;
    const std::optional<JsonValue> key = parameters->find(kRegionParameter);
    if (!key) return std::nullopt;
    const std::string name(field);
    if (!prefix) {
        throw RequestError(
            "'" + name +
                "' is in shared memory, which this model does not accept: its configuration sets no "
                "shared_memory prefix",
            field);
    }
    if (!key->is(JsonKind::kString) || !is_key(key->string()) || !key->string().starts_with(*prefix)) {
        throw RequestError("the " + std::string(kRegionParameter) + " of '" + name +
                               "' must be a key that begins with '" + *prefix + "'",
                           field);
    }
    const auto number = [&](std::string_view parameter, std::optional<int64_t> missing) {
        const std::optional<JsonValue> value = parameters->find(parameter);
        return !value ? missing : value->is(JsonKind::kInteger) ? value->integer() : std::nullopt;
    };
    const std::optional<int64_t> offset = number(kRegionOffsetParameter, 0),
                                 size = number(kRegionSizeParameter, std::nullopt);
    const auto is_valid = [](std::optional<int64_t> value) {
        return value && *value >= 0 && *value < kLimit;
    };
    if (!is_valid(offset) || !is_valid(size)) {
        throw RequestError("'" + name + "' needs a " + std::string(kRegionSizeParameter) + " and a " +
                               std::string(kRegionOffsetParameter) + " of 0 or more",
                           field);
    }
    return Region{std::string(key->string()), *offset, *size};
}

Buffer read_region(const Region& region, std::string_view field) {
    const File file(region, O_RDONLY, field);
    Buffer copy = allocate(static_cast<size_t>(region.size));
    for (size_t done = 0; done < copy.size();) {
        const ssize_t count = pread(file.descriptor(), copy.bytes.data() + done, copy.size() - done,
                                    region.offset + static_cast<off_t>(done));
        if (count == 0) refuse_as_too_short(region, field);  // shortened since it was checked
        if (count < 0 && errno != EINTR) refuse_for_errno(region, field);
        if (count > 0) done += static_cast<size_t>(count);
    }
    return copy;
}

Region write_region(const Region& region, const Array& array, std::string_view field) {
    const std::span<const std::byte> bytes = array.span();
    if (bytes.size() > static_cast<size_t>(region.size)) {
        throw RequestError("'" + std::string(field) + "' takes " + std::to_string(bytes.size()) +
                               " bytes, but its " + std::string(kRegionSizeParameter) + " is " +
                               std::to_string(region.size),
                           field);
    }
    const File file(region, O_RDWR, field);
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t count = pwrite(file.descriptor(), bytes.data() + done, bytes.size() - done,
                                     region.offset + static_cast<off_t>(done));
        if (count < 0 && errno != EINTR) refuse_for_errno(region, field);
        if (count > 0) done += static_cast<size_t>(count);
    }
    return {region.key, region.offset, static_cast<int64_t>(bytes.size())};
}

}  // namespace opserve::native
