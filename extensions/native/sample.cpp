// The sample request of an archive: handlers/sample.py.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <system_error>
#include <vector>

#include "model.h"

namespace opserve::native {
namespace {

namespace fs = std::filesystem;

// The media type that Python's mimetypes has for the files of samples.
std::string media_type(const fs::path& path) {
    static constexpr std::pair<std::string_view, std::string_view> kTypes[] = {
        {".json", "application/json"}, {".png", "image/png"},   {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},       {".jpe", "image/jpeg"},  {".txt", "text/plain"},
        {".csv", "text/csv"},          {".gif", "image/gif"},   {".bin", "application/octet-stream"},
        {".zip", "application/zip"},   {".tiff", "image/tiff"}, {".bmp", "image/bmp"},
    };
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    for (const auto& [known, type] : kTypes) {
        if (known == suffix) return std::string(type);
    }
    return {};
}

Buffer read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
    if (!file.good() && !file.eof()) throw ModelError(path.string() + ": cannot be read");
    const std::shared_ptr<std::byte[]> memory(new std::byte[content.size() + Part::kPadding]());
    std::transform(content.begin(), content.end(), memory.get(),
                   [](char c) { return static_cast<std::byte>(c); });
    return {{memory.get(), content.size()}, memory};
}

}  // namespace

fs::path sample_folder(const fs::path& folder) { return folder / "sample" / "request"; }

Request read_sample_request(const fs::path& folder) {
    const fs::path place = sample_folder(folder);
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator each(place, error), end; !error && each != end; each.increment(error)) {
        if (each->is_regular_file(error)) files.push_back(each->path());
    }
    if (files.empty()) throw ModelError(place.string() + ": the archive has no sample request");
    std::sort(files.begin(), files.end(),
              [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
    Request request;
    for (const fs::path& path : files) {
        Part part{path.stem().string(), media_type(path), read_file(path)};
        const auto same = std::find_if(request.parts.begin(), request.parts.end(),
                                       [&](const Part& other) { return other.name == part.name; });
        if (same == request.parts.end()) {
            request.parts.push_back(std::move(part));
        } else {
            *same = std::move(part);
        }
    }
    return request;
}

}  // namespace opserve::native
