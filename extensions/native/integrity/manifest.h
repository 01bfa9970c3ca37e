// The manifest of an archive, opserve.json: the hash of every other file, and what the libraries require. See
// handlers/integrity/manifest.py.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "json.h"
#include "requirements.h"

namespace opserve::native {

inline constexpr const char* kManifestFile = "opserve.json";

// What a file of the archive must be.
struct FileRecord {
    std::string sha256;
    int64_t size = 0;

    // Throws ModelError for contents of the file `name` that differ from what the packer saw.
    void check(std::string_view name, std::string_view found_sha256, uint64_t found_size) const;
};

struct Manifest {
    std::string name, version;
    std::optional<std::string> profile;
    // Every file except the manifest and its signature, by its path in the archive.
    std::map<std::string, FileRecord, std::less<>> files;
    // What each shared library among them requires.
    std::map<std::string, LibraryRequirements, std::less<>> libraries;

    // Throws ModelError: another format, or not as the packer writes it.
    static Manifest decode(std::string_view content);

    // Throw ModelError unless every library's requirements are met.
    void check_machine() const;
    void check_gpu(std::pair<int, int> capability) const;
};

}  // namespace opserve::native
