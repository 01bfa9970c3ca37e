#include "metrics_config.h"

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace opserve::native {
namespace {

constexpr std::string_view kSection = "model_metrics", kName = "name";

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// A line without its comment and the blanks at its end.
std::string_view content(std::string_view line) {
    for (size_t i = 0; i < line.size(); ++i)
        if (line[i] == '#' && (i == 0 || is_blank(line[i - 1]))) {
            line = line.substr(0, i);
            break;
        }
    while (!line.empty() && is_blank(line.back())) line.remove_suffix(1);
    return line;
}

// A key that ends a line ("gauge:"), without quotes; empty if there is none.
std::string_view only_key(std::string_view line) {
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    if (line.empty() || line.back() != ':' || line.front() == '-') return {};
    line.remove_suffix(1);
    return line;
}

bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

// Calls found(value) for every `name: value` in a line.
template <typename Found>
void find_names(std::string_view line, Found found) {
    for (size_t i = 0; (i = line.find(kName, i)) != std::string_view::npos;) {
        const bool begins = i == 0 || !is_word(line[i - 1]);
        i += kName.size();
        size_t value = i;
        while (value < line.size() && (line[value] == '"' || line[value] == '\'')) ++value;  // "name": value
        if (!begins || value >= line.size() || line[value] != ':') continue;
        ++value;
        while (value < line.size() && (is_blank(line[value]) || line[value] == '"' || line[value] == '\''))
            ++value;
        i = value;
        while (i < line.size() && is_word(line[i])) ++i;
        if (i > value) found(line.substr(value, i - value));
    }
}

}  // namespace

DeclaredMetrics find_declared_metrics(std::string_view text) {
    DeclaredMetrics declared;
    bool inside = false;
    std::string type;
    while (!text.empty()) {
        const size_t end = text.find('\n');
        const std::string_view line = content(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty()) continue;
        if (!is_blank(line.front()) && line.front() != '-') {
            inside = only_key(line) == kSection;
            type.clear();
        } else if (inside) {
            const std::string_view key = only_key(line);
            if (key == "counter" || key == "gauge" || key == "histogram")
                type = key;
            else
                find_names(line, [&](std::string_view name) { declared.emplace(type, name); });
        }
    }
    return declared;
}

DeclaredMetrics read_declared_metrics(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw std::runtime_error("cannot read " + path);
    return find_declared_metrics(text);
}

}  // namespace opserve::native
