#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "../common/errors.h"
#include "sha256.h"

namespace opserve::native {
namespace {

constexpr size_t kChunk = size_t{1} << 20;
// A pipe in the place of a file must not stop the worker before it is seen that it is one.
constexpr int kFile = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
constexpr int kFolder = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY;

ModelError unreadable(std::string_view name, int error) {
    return ModelError(printable(name, kMaxMessage) + ": cannot be read: " + std::strerror(error));
}

ModelError special(std::string_view name) {
    return ModelError(printable(name, kMaxMessage) + ": a link or special file, which no archive has");
}

struct CloseFolder {
    void operator()(DIR* folder) const { closedir(folder); }
};

// Adds the files below a folder. One that cannot be read has none: its files will be missing.
void list_into(Descriptor folder, const std::string& prefix, std::set<std::string>& found) {
    const std::unique_ptr<DIR, CloseFolder> entries(fdopendir(folder.get()));
    if (!entries) return;
    const int number = folder.release();  // now the stream's
    std::vector<std::string> folders;
    while (const dirent* entry = readdir(entries.get())) {
        const std::string name = entry->d_name;
        if (name == "." || name == "..") continue;
        struct stat status{};
        if (fstatat(number, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
            throw unreadable(prefix + name, errno);
        if (S_ISREG(status.st_mode))
            found.insert(prefix + name);
        else if (S_ISDIR(status.st_mode))
            folders.push_back(name);
        else
            throw special(prefix + name);
    }
    for (const std::string& name : folders) {
        Descriptor below(openat(number, name.c_str(), kFolder));
        if (below) list_into(std::move(below), prefix + name + '/', found);
    }
}

void require_regular(const Descriptor& file, std::string_view name) {
    struct stat status{};
    if (fstat(file.get(), &status) != 0) throw unreadable(name, errno);
    if (!S_ISREG(status.st_mode)) throw special(name);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    if (this != &other) {
        if (number_ >= 0) close(number_);
        number_ = other.release();
    }
    return *this;
}

Descriptor::~Descriptor() {
    if (number_ >= 0) close(number_);
}

int Descriptor::release() { return std::exchange(number_, -1); }

size_t read_some(int descriptor, void* out, size_t length) {
    while (true) {
        const ssize_t got = ::read(descriptor, out, length);
        if (got >= 0) return static_cast<size_t>(got);
        if (errno != EINTR) throw std::system_error(errno, std::generic_category());
    }
}

Folder::Folder(const std::filesystem::path& path)
    : folder_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY)) {
    if (!folder_) throw unreadable(path.native(), errno);
}

std::set<std::string> Folder::list() const {
    std::set<std::string> found;
    // A descriptor of its own: reading a folder moves the position in it.
    Descriptor again(openat(folder_.get(), ".", kFolder));
    if (!again) throw unreadable(".", errno);
    list_into(std::move(again), {}, found);
    return found;
}

Descriptor Folder::open(std::string_view name) const {
    Descriptor parent;
    std::string_view rest = name;
    while (true) {
        const size_t slash = rest.find('/');
        const std::string part(rest.substr(0, slash));
        const bool last = slash == std::string_view::npos;
        const int from = parent ? parent.get() : folder_.get();
        Descriptor next(openat(from, part.c_str(), last ? kFile : kFolder));
        if (!next) throw errno == ELOOP ? special(name) : unreadable(name, errno);
        if (last) {
            require_regular(next, name);
            return next;
        }
        parent = std::move(next);
        rest.remove_prefix(slash + 1);
    }
}

std::optional<std::string> Folder::read(const std::string& name) const {
    const Descriptor file(openat(folder_.get(), name.c_str(), kFile));
    if (!file && errno == ENOENT) return std::nullopt;
    if (!file) throw errno == ELOOP ? special(name) : unreadable(name, errno);
    require_regular(file, name);
    std::string content;
    try {
        std::vector<char> chunk(size_t{1} << 16);
        while (const size_t got = read_some(file.get(), chunk.data(), chunk.size()))
            content.append(chunk.data(), got);
    } catch (const std::system_error& error) {
        throw unreadable(name, error.code().value());
    }
    return content;
}

HashedFile hash_file(const Descriptor& file, std::string_view name) {
    Sha256 hash;
    HashedFile hashed;
    const auto chunk = std::make_unique_for_overwrite<std::byte[]>(kChunk);
    try {
        while (const size_t got = read_some(file.get(), chunk.get(), kChunk)) {
            hash.update({chunk.get(), got});
            hashed.size += got;
        }
    } catch (const std::system_error& error) {
        throw unreadable(name, error.code().value());
    }
    hashed.sha256 = hash.finish();
    return hashed;
}

}  // namespace opserve::native
