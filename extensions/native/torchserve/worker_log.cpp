#include "worker_log.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "../common/errors.h"

namespace opserve::native {
namespace {

bool is_plain(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

// The length of the line end at `i`, 0 if there is none: those of Python and Java, which is one more than
// either's.
size_t line_end(std::string_view text, size_t i) {
    const auto byte = [text](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0U; };
    const unsigned first = byte(i);
    if ((first >= 0x0a && first <= 0x0d) || (first >= 0x1c && first <= 0x1e)) return 1;
    if (first == 0xc2 && byte(i + 1) == 0x85) return 2;
    if (first == 0xe2 && byte(i + 1) == 0x80 && (byte(i + 2) == 0xa8 || byte(i + 2) == 0xa9)) return 3;
    return 0;
}

// Appends a line without its end; tabs stay.
void append_line(std::string& out, std::string_view line) {
    // Every character escaped; a text of n bytes has at most n characters.
    const auto append = [&out](std::string_view part) {
        if (is_plain(part))
            out += part;
        else
            out += printable(part, 10 * part.size());
    };
    size_t begin = 0;
    for (size_t tab; (tab = line.find('\t', begin)) != std::string_view::npos; begin = tab + 1) {
        append(line.substr(begin, tab - begin));
        out += '\t';
    }
    append(line.substr(begin));
}

bool addresses_server(std::string_view text) {
    static constexpr std::string_view kLevel = "INFO > ";
    const size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return false;
    text.remove_prefix(begin);
    if (text.starts_with(kLevel)) text.remove_prefix(kLevel.size());
    return text.starts_with('[');
}

void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
        if (written > 0)
            text.remove_prefix(static_cast<size_t>(written));
        else if (errno != EINTR)
            return;
    }
}

}  // namespace

std::string as_record(std::string_view text) {
    std::string record;
    if (is_plain(text) && text.size() <= kMaxRecord) {
        record = text;
    } else {
        // Bytes first: a text of a gigabyte is not to be looked at as a whole.
        std::string cut;
        if (text.size() > 8 * kMaxRecord) {
            cut = std::string(text.substr(0, 4 * kMaxRecord)) +
                  std::string(text.substr(text.size() - 4 * kMaxRecord));
            text = cut;
        }
        const std::string bounded = shortened(text, kMaxRecord);
        size_t begin = 0;
        for (size_t i = 0; i < bounded.size();) {
            const size_t end = line_end(bounded, i);
            if (end == 0) {
                ++i;
                continue;
            }
            append_line(record, std::string_view(bounded).substr(begin, i - begin));
            record += "\n  ";
            i += end;
            begin = i;
        }
        append_line(record, std::string_view(bounded).substr(begin));
    }
    if (addresses_server(record)) record.insert(0, "  ");
    return record;
}

void write_log(std::string_view text) { write_all(as_record(text) + '\n'); }

void write_to_server(std::string_view lines) { write_all(std::string(lines) + '\n'); }

}  // namespace opserve::native
