#include "describe.h"

#include <charconv>
#include <fstream>
#include <memory>
#include <span>
#include <string_view>

#include "codecs/encode.h"
#include "common/errors.h"
#include "integrity/sha256.h"

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
    constexpr size_t kPiece = size_t{1} << 18;
    std::ifstream file(path, std::ios::binary);
    const auto piece = std::make_unique<char[]>(kPiece);
    Sha256 hash;
    while (file.read(piece.get(), kPiece).gcount() > 0) {
        hash.update(std::as_bytes(std::span(piece.get(), static_cast<size_t>(file.gcount()))));
    }
    if (!file.eof()) throw ModelError(path.string() + ": cannot be read");
    return hash.finish();
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
