#include "describe.h"

#include <openssl/evp.h>

#include <charconv>
#include <fstream>
#include <memory>
#include <string_view>

#include "codecs/encode.h"
#include "common/errors.h"

namespace opserve::native {
namespace {

std::string json_text(std::string_view text) {
    std::string out;
    append_json(out, text);
    return out;
}

std::string describe_spec(const TensorSpec& spec) {
    std::string text = "{\"name\": " + json_text(spec.name) + ", \"dtype\": \"" +
                       std::string(name(spec.dtype)) + "\", \"shape\": [";
    for (size_t i = 0; i < spec.shape.size(); ++i)
        text += (i == 0 ? "" : ", ") + std::to_string(spec.shape[i]);
    text += "]";
    if (spec.optional) text += ", \"optional\": true";
    if (spec.minimum) {
        char number[32];
        const auto end = std::to_chars(number, number + sizeof number, *spec.minimum).ptr;
        text.append(", \"minimum\": ").append(number, end);
    }
    return text + "}";
}

std::string describe_specs(const Signature& specs) {
    std::string text;
    for (const TensorSpec& spec : specs) text += (text.empty() ? "" : ", ") + describe_spec(spec);
    return "[" + text + "]";
}

std::string hash_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    const auto buffer = std::make_unique<char[]>(size_t{1} << 18);
    bool works = hash && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1;
    while (works && file.read(buffer.get(), 1 << 18).gcount() > 0) {
        works = EVP_DigestUpdate(hash.get(), buffer.get(), static_cast<size_t>(file.gcount())) == 1;
    }
    if (!works || !file.eof() || EVP_DigestFinal_ex(hash.get(), digest, &length) != 1) {
        throw ModelError(path.string() + ": cannot be read");
    }
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (unsigned int i = 0; i < length; ++i) text.append({kDigits[digest[i] >> 4], kDigits[digest[i] & 15]});
    return text;
}

}  // namespace

Hashes hash_libraries(const std::filesystem::path& folder, const ModelConfig& config) {
    Hashes hashes;
    for (const std::string& file : config.op_libraries) hashes.emplace_back(file, hash_file(folder / file));
    return hashes;
}

std::string describe_model(const ModelConfig& config, const Engine& engine, const Hashes& libraries) {
    std::string hashes;
    for (const auto& [file, hash] : libraries) {
        hashes += (hashes.empty() ? "" : ", ") + json_text(file) + ": \"" + hash + "\"";
    }
    return "\"inputs\": " + describe_specs(config.inputs) +
           ", \"outputs\": " + describe_specs(config.outputs) +
           ", \"artifact\": " + json_text(config.artifact) + ", \"batching\": \"" +
           std::string(name(config.batching)) +
           "\", \"profile\": " + (config.profile ? json_text(*config.profile) : "null") +
           ", \"op_libraries\": {" + hashes + "}, \"format\": " + json_text(engine.format()) +
           ", \"runtime\": " + json_text(engine.runtime()) + ", \"device\": " + json_text(engine.device()) +
           ", \"threads\": " + std::to_string(config.threads) + engine.describe_more();
}

}  // namespace opserve::native
