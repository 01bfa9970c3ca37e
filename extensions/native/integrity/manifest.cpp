#include "manifest.h"

#include <algorithm>

#include "../common/errors.h"
#include "sha256.h"

namespace opserve::native {
namespace {

constexpr int64_t kFormat = 1;
constexpr const char* kNotOurs = ": not written by opserve's packer";

// What the packer never writes; the text says what.
struct Unexpected {
    std::string what;
};

ModelError refusal(const std::string& reason) { return ModelError(kManifestFile + reason); }

const Json& member(const Json& object, const char* name) {
    const Json* found = object.find(name);
    if (found == nullptr) throw Unexpected{std::string("no '") + name + '\''};
    return *found;
}

const JsonObject& members(const Json& json, const char* name) {
    const auto* object = member(json, name).as<JsonObject>();
    if (object == nullptr) throw Unexpected{std::string("'") + name + "' is not an object"};
    return *object;
}

std::string text(const Json& json, const char* name) {
    const auto* value = json.as<std::string>();
    if (value == nullptr || value->empty()) throw Unexpected{std::string("expected text as '") + name + '\''};
    return *value;
}

bool is_sha256(std::string_view text) {
    return text.size() == 64 &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

FileRecord file_record(const std::string& name, const Json& json) {
    const auto* sha256 = member(json, "sha256").as<std::string>();
    const auto* size = member(json, "size").as<int64_t>();
    if (sha256 == nullptr || !is_sha256(*sha256) || size == nullptr || *size < 0)
        throw Unexpected{name + ": expected a sha256 and a size"};
    return {*sha256, *size};
}

std::vector<std::string> versions(const Json& json, const ModelError& wrong) {
    const auto* list = json.as<JsonList>();
    if (list == nullptr) throw wrong;
    std::vector<std::string> found;
    for (const Json& each : *list) {
        const auto* version = each.as<std::string>();
        if (version == nullptr || !is_version(*version) || std::ranges::count(*version, '.') != 1)
            throw wrong;
        found.push_back(*version);
    }
    return found;
}

std::optional<std::string> optional_version(const Json& json, const ModelError& wrong) {
    if (json.is_null()) return std::nullopt;
    const auto* version = json.as<std::string>();
    if (version == nullptr || !is_version(*version)) throw wrong;
    return *version;
}

LibraryRequirements read_requirements(const std::string& name, const Json& json) {
    static constexpr const char* kKeys[] = {"machine",          "symbols",         "torch_stable_abi",
                                            "torch_exactly",    "onnxruntime_api", "cuda_programs",
                                            "cuda_intermediate"};
    const std::string where = std::string(kManifestFile) + ": " + name;
    const auto* object = json.as<JsonObject>();
    if (object == nullptr || object->size() != std::size(kKeys) ||
        !std::ranges::all_of(kKeys, [object](const char* key) { return object->contains(key); }))
        throw ModelError(
            where +
            ": expected the keys machine, symbols, torch_stable_abi, torch_exactly, onnxruntime_api, "
            "cuda_programs, cuda_intermediate");
    const ModelError wrong(where + ": a value is of the wrong type");
    LibraryRequirements found;
    const auto* machine = member(json, "machine").as<std::string>();
    const auto* symbols = member(json, "symbols").as<JsonObject>();
    if (machine == nullptr || symbols == nullptr) throw wrong;
    found.machine = *machine;
    for (const auto& [family, version] : *symbols) {
        const auto* number = version.as<std::string>();
        if (number == nullptr || !is_version(*number)) throw wrong;
        found.symbols.emplace(family, *number);
    }
    found.torch_stable_abi = optional_version(member(json, "torch_stable_abi"), wrong);
    found.torch_exactly = optional_version(member(json, "torch_exactly"), wrong);
    if (const Json& api = member(json, "onnxruntime_api"); !api.is_null()) {
        if (api.as<int64_t>() == nullptr) throw wrong;
        found.onnxruntime_api = *api.as<int64_t>();
    }
    found.cuda_programs = versions(member(json, "cuda_programs"), wrong);
    found.cuda_intermediate = versions(member(json, "cuda_intermediate"), wrong);
    return found;
}

// Whether the packer would have written these bytes for this document: it writes in one way only, with a hash
// of the rest as "checksum".
bool is_canonical(const Json& document, std::string_view content) {
    JsonObject rest = *document.as<JsonObject>();
    rest.erase("checksum");
    const Json unsummed{rest};
    rest.emplace("checksum", Json{sha256(write_json(unsummed, false))});
    return write_json(Json{std::move(rest)}, true) + '\n' == content;
}

// Whether an object has these members and no others.
bool has_only(const Json& json, std::initializer_list<std::string_view> names) {
    const auto* object = json.as<JsonObject>();
    return object != nullptr && std::ranges::all_of(*object, [names](const auto& each) {
               return std::ranges::find(names, each.first) != names.end();
           });
}

std::string with_commas(uint64_t number) {
    std::string digits = std::to_string(number);
    for (size_t i = digits.size(); i > 3;) {
        i -= 3;
        digits.insert(i, 1, ',');
    }
    return digits;
}

}  // namespace

void FileRecord::check(std::string_view name, std::string_view found_sha256, uint64_t found_size) const {
    const auto damaged = [name] { return std::string(name) + ": damaged or changed: it"; };
    if (found_size != static_cast<uint64_t>(size))
        throw ModelError(damaged() + " has " + with_commas(found_size) + " bytes, the packer wrote " +
                         with_commas(static_cast<uint64_t>(size)));
    if (found_sha256 != sha256)
        throw ModelError(damaged() + "s sha256 is " + std::string(found_sha256.substr(0, 12)) + "…, not " +
                         sha256.substr(0, 12) + "…");
}

Manifest Manifest::decode(std::string_view content) {
    Json document;
    try {
        document = parse_json(content);
    } catch (const std::invalid_argument& error) {
        throw refusal(std::string(": not JSON: ") + error.what());
    }
    const Json* format = document.find("format");
    if (format == nullptr || format->as<int64_t>() == nullptr) throw refusal(kNotOurs);
    if (*format->as<int64_t>() != kFormat)
        throw refusal(": the archive has format " + std::to_string(*format->as<int64_t>()) +
                      "; this opserve reads " + std::to_string(kFormat));
    Manifest manifest;
    bool expected = false;
    try {
        const Json& model = member(document, "model");
        manifest.name = text(member(model, "name"), "name");
        manifest.version = text(member(model, "version"), "version");
        expected = has_only(document, {"format", "model", "files", "libraries", "checksum"}) &&
                   has_only(model, {"name", "version", "profile"});
        for (const auto& [name, record] : members(document, "files")) {
            manifest.files.emplace(name, file_record(name, record));
            expected = expected && has_only(record, {"sha256", "size"});
        }
        for (const auto& [name, requirements] : members(document, "libraries")) {
            manifest.libraries.emplace(name, read_requirements(name, requirements));
            expected = expected && manifest.files.contains(name);
        }
        if (const Json* profile = model.find("profile")) manifest.profile = text(*profile, "profile");
    } catch (const Unexpected& error) {
        throw refusal(kNotOurs + (": " + printable(error.what, kMaxMessage)));
    }
    if (!expected || !is_canonical(document, content))
        throw refusal(": damaged, or changed after the packer wrote it");
    return manifest;
}

void Manifest::check_machine() const {
    for (const auto& [name, requirements] : libraries) requirements.check_machine(name);
}

void Manifest::check_gpu(std::pair<int, int> capability) const {
    for (const auto& [name, requirements] : libraries) requirements.check_gpu(name, capability);
}

}  // namespace opserve::native
