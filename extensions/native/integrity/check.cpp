#include "check.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include "../common/errors.h"
#include "files.h"
#include "signing.h"

namespace opserve::native {
namespace {

// What the kernel leaves in the current folder of a worker that a signal ended: "core", "core.4711".
bool is_core_file(std::string_view name) {
    if (!name.starts_with("core")) return false;
    name.remove_prefix(4);
    if (name.empty()) return true;
    return name.size() > 1 && name[0] == '.' &&
           std::ranges::all_of(name.substr(1), [](char c) { return c >= '0' && c <= '9'; });
}

// Whether Python wrote this file for a module of the archive, to be used only while that is unchanged. It is
// there if the archive was tried by Python too.
bool is_cached_bytecode(const Folder& folder, std::string_view name, const Manifest& manifest) {
    static constexpr std::string_view kCache = "__pycache__/", kSuffix = ".pyc";
    const size_t slash = name.rfind('/');
    if (slash == std::string_view::npos) return false;
    const std::string_view parent = name.substr(0, slash + 1), file = name.substr(slash + 1);
    if (!parent.ends_with(kCache) || !file.ends_with(kSuffix) || file.size() == kSuffix.size()) return false;
    const std::string_view above = parent.substr(0, parent.size() - kCache.size());
    if (!above.empty() && !above.ends_with('/')) return false;
    const std::string source = std::string(above) + std::string(file.substr(0, file.find('.'))) + ".py";
    if (!manifest.files.contains(source)) return false;
    std::array<char, 8> head{};
    try {
        // Flags other than 0 tell Python not to compare the file with its source.
        if (read_some(folder.open(name).get(), head.data(), head.size()) != head.size()) return false;
    } catch (const std::system_error&) {
        return false;
    }
    return std::all_of(head.begin() + 4, head.end(), [](char c) { return c == 0; });
}

void check_files(const Folder& folder, const Manifest& manifest) {
    const std::set<std::string> found = folder.list();
    for (const auto& [name, record] : manifest.files)
        if (!found.contains(name)) throw ModelError(name + ": missing from the archive");
    for (const std::string& name : found) {
        if (manifest.files.contains(name) || name == kManifestFile || name == kSignatureFile) continue;
        if (!is_core_file(name) && !is_cached_bytecode(folder, name, manifest))
            throw ModelError(printable(name, kMaxMessage) + ": not a file of this archive; " + kManifestFile +
                             " does not list it");
    }
    for (const auto& [name, record] : manifest.files) {
        const HashedFile file = hash_file(folder.open(name), name);
        record.check(name, file.sha256, file.size);
    }
}

}  // namespace

Manifest check_archive(const std::filesystem::path& path) {
    const Folder folder(path);
    const std::optional<std::string> content = folder.read(kManifestFile);
    if (!content)
        throw ModelError(std::string(kManifestFile) +
                         ": missing from the archive; pack it again with `make archive`");
    check_signature(*content, folder.read(kSignatureFile), public_key_path());
    Manifest manifest = Manifest::decode(*content);
    check_files(folder, manifest);
    manifest.check_machine();
    return manifest;
}

}  // namespace opserve::native
