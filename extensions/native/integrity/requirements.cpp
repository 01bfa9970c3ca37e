#include "requirements.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "../common/errors.h"
#include "files.h"
#include "runtimes.h"

namespace opserve::native {
namespace {

using Numbers = std::vector<uint64_t>;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The numbers that a version starts with: 2, 13, 0 for "2.13.0+cpu"; 0 if there is none.
Numbers parse_version(std::string_view text) {
    Numbers numbers;
    for (size_t i = 0; i < text.size() && is_digit(text[i]);) {
        uint64_t number = 0;
        for (; i < text.size() && is_digit(text[i]); ++i) {
            constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max() / 10 - 1;
            number = std::min(number, kMost) * 10 + static_cast<uint64_t>(text[i] - '0');
        }
        numbers.push_back(number);
        if (i + 1 >= text.size() || text[i] != '.' || !is_digit(text[i + 1])) break;
        ++i;
    }
    return numbers.empty() ? Numbers{0} : numbers;
}

Numbers minor_version(std::string_view text) {
    Numbers numbers = parse_version(text);
    numbers.resize(std::min<size_t>(numbers.size(), 2));
    return numbers;
}

std::string machine() {
    utsname names{};
    return uname(&names) == 0 ? names.machine : "unknown";
}

// The version of the running C library; empty if it is not glibc.
std::string glibc_version() {
    char text[64] = {};
    const size_t length = confstr(_CS_GNU_LIBC_VERSION, text, sizeof(text));
    const std::string_view name(text);
    if (length == 0 || !name.starts_with("glibc ")) return {};
    return std::string(name.substr(std::strlen("glibc ")));
}

std::string mapped_path(const std::string& library) {
    struct Search {
        std::string name, path;
    } search{'/' + library, {}};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            auto& wanted = *static_cast<Search*>(data);
            if (std::string_view(info->dlpi_name).find(wanted.name) == std::string_view::npos) return 0;
            wanted.path = info->dlpi_name;
            return 1;
        },
        &search);
    return search.path;
}

// Whether a system library, as the loader finds it for this process, defines a version of its symbols.
bool defines_version(const std::string& library, const std::string& version) {
    if (dlopen(library.c_str(), RTLD_LAZY) == nullptr) return false;
    const Descriptor file(open(mapped_path(library).c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status{};
    if (!file || fstat(file.get(), &status) != 0 || status.st_size <= 0) return false;
    const auto size = static_cast<size_t>(status.st_size);
    void* content = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (content == MAP_FAILED) return false;
    // Its string table holds the names of the versions, each ended by a zero.
    const std::string name = '\0' + version + '\0';
    const bool found = memmem(content, size, name.data(), name.size()) != nullptr;
    munmap(content, size);
    return found;
}

std::string joined(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& text : texts) all += (all.empty() ? "" : ", ") + text;
    return all;
}

}  // namespace

bool is_version(std::string_view text) {
    bool digit = false;
    for (const char c : text) {
        if (!is_digit(c) && (c != '.' || !digit)) return false;
        digit = is_digit(c);
    }
    return digit;
}

void LibraryRequirements::check_machine(std::string_view name) const {
    const auto refuse = [name](const std::string& problem) {
        return ModelError(std::string(name) + ": " + problem);
    };
    if (const std::string here = native::machine(); machine != here)
        throw refuse("built for " + machine + "; this processor is " + here + ": build the library for it");
    for (const auto& [family, version] : symbols) {
        if (family == "GLIBC") {
            const std::string here = glibc_version();
            if (here.empty() || parse_version(here) < parse_version(version))
                throw refuse("needs glibc " + version + " or newer; here is " +
                             (here.empty() ? "another C library" : here) +
                             ": build it on an older system, or serve it on a newer one");
        } else if (family == "GLIBCXX" || family == "CXXABI") {
            static const std::string kLibrary = "libstdc++.so.6";
            const std::string wanted = family + '_' + version;
            if (!defines_version(kLibrary, wanted))
                throw refuse("needs " + kLibrary + " with " + wanted +
                             "; the one here is older: build it with an older compiler, or serve it on a "
                             "newer system");
        }
    }
    static const std::string kRebuild = "or build the library for this one";
    if (torch_stable_abi) {
        const std::string here = torch_version();
        if (parse_version(here) < parse_version(*torch_stable_abi))
            throw refuse("built for PyTorch " + *torch_stable_abi + " or newer; here is " + here +
                         ": install a newer one, " + kRebuild);
    }
    if (torch_exactly) {
        const std::string here = torch_version();
        if (minor_version(here) != minor_version(*torch_exactly))
            throw refuse("built for PyTorch " + *torch_exactly +
                         " and no other (it does not keep to the stable ABI); here is " + here +
                         ": install that one, " + kRebuild);
    }
    // API version n is that of ONNX Runtime 1.n.
    if (onnxruntime_api && *onnxruntime_api != 0) {
        const std::string here = onnxruntime_version();
        if (*onnxruntime_api > 0 && minor_version(here) < Numbers{1, static_cast<uint64_t>(*onnxruntime_api)})
            throw refuse("built for ONNX Runtime 1." + std::to_string(*onnxruntime_api) +
                         " or newer; here is " + here + ": install a newer one, " + kRebuild);
    }
}

void LibraryRequirements::check_gpu(std::string_view name, std::pair<int, int> capability) const {
    if (cuda_programs.empty() && cuda_intermediate.empty()) return;
    const Numbers here{static_cast<uint64_t>(capability.first), static_cast<uint64_t>(capability.second)};
    // Machine code runs on its own generation and later members of it, PTX on everything newer.
    for (const std::string& each : cuda_programs)
        if (const Numbers program = parse_version(each); program[0] == here[0] && program[1] <= here[1])
            return;
    for (const std::string& each : cuda_intermediate)
        if (parse_version(each) <= here) return;
    std::vector<std::string> all = cuda_programs;
    all.insert(all.end(), cuda_intermediate.begin(), cuda_intermediate.end());
    // TorchServe takes any message that contains NVIDIA's name for the platform for one about memory.
    throw ModelError(std::string(name) + ": has GPU code for " + joined(all) +
                     "; this GPU has compute capability " + std::to_string(capability.first) + '.' +
                     std::to_string(capability.second) + ": build the library for it, or use device: cpu");
}

}  // namespace opserve::native
