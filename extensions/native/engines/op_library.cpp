#include "op_library.h"

#include <dlfcn.h>
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <system_error>

namespace opserve::native {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// The name of the library with the same operators for CUDA.
std::string cuda_library(std::string name) {
    if (name.ends_with(".so")) name.resize(name.size() - 3);
    return name + "_cuda.so";
}

}  // namespace

std::vector<std::string> select_libraries(const std::vector<std::string>& libraries, bool gpu,
                                          bool cuda_replaces) {
    std::vector<std::string> left_out;
    for (const std::string& name : libraries) {
        if (!gpu) {
            left_out.push_back(cuda_library(name));
        } else if (cuda_replaces && contains(libraries, cuda_library(name))) {
            left_out.push_back(name);
        }
    }
    std::vector<std::string> selected;
    for (const std::string& name : libraries) {
        if (!contains(left_out, name)) selected.push_back(name);
    }
    return selected;
}

std::optional<std::string> find_corruption(const std::filesystem::path& path) {
    Elf64_Ehdr header{};
    std::ifstream file(path, std::ios::binary);
    file.read(reinterpret_cast<char*>(&header), sizeof(header));
    const auto got = static_cast<size_t>(file.gcount());
    if (got < SELFMAG || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
        return "it is not a shared library (no ELF header)";
    }
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    const uintmax_t sections = uintmax_t{header.e_shentsize} * header.e_shnum;
    if (got < sizeof(header) || error || header.e_shoff > size || sections > size - header.e_shoff) {
        return "it is truncated";
    }
    return std::nullopt;
}

void check_library(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) {
        throw ModelError(path.filename().string() + ": the operator library is not in " +
                         path.parent_path().string());
    }
    if (const auto problem = find_corruption(path)) throw load_error(path, *problem);
}

std::optional<std::string> open_library(const std::filesystem::path& path) {
    // A name with a slash, so that it is looked for nowhere else.
    const std::string absolute = std::filesystem::absolute(path).string();
    if (dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) return std::nullopt;
    return dlerror();
}

ModelError load_error(const std::filesystem::path& path, std::string_view reason) {
    return ModelError(path.filename().string() +
                      ": the operator library does not load: " + std::string(reason));
}

}  // namespace opserve::native
