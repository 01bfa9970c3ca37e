// What a shared library requires of the machine that opens it, and whether this machine meets it: the rules
// of handlers/integrity/requirements.py. Nothing of the library is executed. What is not known about it is
// not checked.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace opserve::native {

// What one ELF file was built for, as the packer read it from the file itself.
struct LibraryRequirements {
    std::string machine;  // as `uname -m` names it
    std::map<std::string, std::string>
        symbols;  // the newest version of GLIBC, GLIBCXX, CXXABI that it refers to
    std::optional<std::string> torch_stable_abi, torch_exactly;
    std::optional<int64_t> onnxruntime_api;
    std::vector<std::string> cuda_programs, cuda_intermediate;

    // Check against this machine, leaving aside its GPU; and against the compute capability of a GPU. Throw
    // ModelError, which names the library and what is missing.
    void check_machine(std::string_view name) const;
    void check_gpu(std::string_view name, std::pair<int, int> capability) const;
};

// Whether a text is a version: numbers joined by dots.
bool is_version(std::string_view text);

}  // namespace opserve::native
