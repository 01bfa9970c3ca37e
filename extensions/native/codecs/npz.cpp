#include <isa-l.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "inflate.h"
#include "npy.h"
#include "npy_header.h"
#include "text.h"
#include "unreadable.h"
#include "zip_writer.h"

namespace opserve::native {
namespace {

constexpr size_t kEndBytes = 22, kEntryBytes = 46, kLocalBytes = 30;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint32_t kInZip64 = 0xffffffff;
constexpr std::string_view kSuffix = ".npy";

uint16_t get16(std::string_view bytes, size_t at) {
    return static_cast<uint16_t>(static_cast<unsigned char>(bytes[at]) |
                                 static_cast<unsigned char>(bytes[at + 1]) << 8);
}
uint32_t get32(std::string_view bytes, size_t at) {
    return get16(bytes, at) | static_cast<uint32_t>(get16(bytes, at + 2)) << 16;
}

uint32_t crc32(uint32_t crc, std::span<const std::byte> bytes) {
    return crc32_gzip_refl(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

// The length of the UTF-8 character at the beginning of a text; or, negative, that of the part that can begin
// one.
int measure_character(std::string_view text) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return -1;
    const int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    // Shorter forms exist, surrogates, and numbers beyond the last one.
    const unsigned least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < least || byte(1) > most) return -1;
    for (int at = 2; at < length; ++at) {
        if ((byte(static_cast<size_t>(at)) & 0xc0) != 0x80) return -at;
    }
    return length;
}

// As bytes.decode("utf-8", "replace").
std::string replace_invalid(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const int length = measure_character(text);
        const auto count = static_cast<size_t>(std::abs(length));
        result += length > 0 ? text.substr(0, count) : std::string_view("\xef\xbf\xbd");
        text.remove_prefix(count);
    }
    return result;
}

// Finds names that occur twice, in a time that no choice of names makes quadratic.
class Names {
  public:
    // Returns whether it is new among those of `members`, all of which were added, and stay where they are.
    bool add(std::string_view name, const std::vector<NpzMember>& members) {
        if (members.size() < kFew) {
            return std::none_of(members.begin(), members.end(),
                                [&](const NpzMember& member) { return member.name == name; });
        }
        if (members.size() == kFew) {
            for (const NpzMember& member : members) sorted_.insert(member.name);
        }
        return !sorted_.contains(name);
    }
    // `name` is now kept by the members.
    void keep(std::string_view name) {
        if (!sorted_.empty()) sorted_.insert(name);
    }

  private:
    static constexpr size_t kFew = 16;
    std::set<std::string_view> sorted_;
};

}  // namespace

std::vector<NpzMember> list_npz(const Buffer& content, std::optional<std::string_view> field,
                                int64_t max_bytes) {
    const std::string_view bytes = content.text();
    if (bytes.size() < kEndBytes) throw unreadable(field, "the .npz file is truncated");
    const size_t end = bytes.size() - kEndBytes;
    const std::string_view last = bytes.substr(end);
    const size_t here = get16(last, 8), count = get16(last, 10), directory = get32(last, 12);
    size_t at = get32(last, 16);
    const bool one_disk = get16(last, 4) == 0 && get16(last, 6) == 0 && here == count;
    if (!last.starts_with("PK\5\6") || get16(last, 20) != 0 || !one_disk || at + directory != end) {
        throw unreadable(field, "the .npz file is truncated or not a plain zip archive");
    }
    std::vector<NpzMember> members;
    members.reserve(std::min(count, directory / kEntryBytes));
    Names names;
    uint64_t total = 0;
    for (size_t i = 0; i < count; ++i) {
        if (at + kEntryBytes > end) throw unreadable(field, "the directory of the .npz file is truncated");
        const std::string_view entry = bytes.substr(at, kEntryBytes);
        const size_t name_bytes = get16(entry, 28);
        // The name of the last entry may go beyond the directory, which is found out below.
        NpzMember member;
        member.name = replace_invalid(bytes.substr(at + kEntryBytes, name_bytes));
        if (!entry.starts_with("PK\1\2") || !member.name.ends_with(kSuffix)) {
            throw unreadable(field, "the .npz file holds " + quoted(first_characters(member.name, 80)) +
                                        ", which is not an .npy file");
        }
        member.name.resize(member.name.size() - kSuffix.size());
        if (!names.add(member.name, members)) {
            throw RequestError("'" + member.name + "' occurs twice in the .npz file", member.name);
        }
        member.method = get16(entry, 10);
        member.crc = get32(entry, 16);
        member.packed_bytes = get32(entry, 20);
        member.unpacked_bytes = get32(entry, 24);
        member.offset = get32(entry, 42);
        const bool zip64 =
            member.packed_bytes == kInZip64 || member.unpacked_bytes == kInZip64 || member.offset == kInZip64;
        if ((get16(entry, 8) & kEncrypted) != 0 || (member.method != kStored && member.method != kDeflated) ||
            zip64) {
            throw unreadable(member.name, "it must be stored or deflated, without encryption or zip64 sizes");
        }
        // Members may overlap; each counts as if it were the only one.
        total += member.unpacked_bytes;
        members.push_back(std::move(member));
        names.keep(members.back().name);
        at += kEntryBytes + name_bytes + get16(entry, 30) + get16(entry, 32);
    }
    if (at != end) throw unreadable(field, "the directory of the .npz file is damaged");
    if (total > static_cast<uint64_t>(max_bytes)) {
        throw over_bound("the .npz file unpacks to " + std::to_string(total) + " bytes", max_bytes, field);
    }
    return members;
}

Array read_member(const Buffer& content, const NpzMember& member, std::string_view field) {
    const std::string_view bytes = content.text();
    if (member.offset + kLocalBytes > bytes.size()) throw unreadable(field, "the .npz file is truncated");
    const std::string_view local = bytes.substr(member.offset, kLocalBytes);
    const size_t start =
        std::min(member.offset + kLocalBytes + get16(local, 26) + get16(local, 28), bytes.size());
    if (!local.starts_with("PK\3\4") || bytes.size() - start < member.packed_bytes) {
        throw unreadable(field, "the .npz file is truncated");
    }
    Buffer data = content.slice(start, member.packed_bytes);
    if (member.method != kStored) {
        try {
            data = inflate(data.bytes, Wrapper::kRaw, member.unpacked_bytes).bytes;
        } catch (const DamagedStream&) {
            data = {};
        } catch (const TooSlow&) {
            throw RequestError(
                "'" + std::string(field) + "' takes too long to unpack; compress it with zlib, or not at all",
                field, 413);
        }
    }
    if (data.size() != member.unpacked_bytes || crc32(0, data.bytes) != member.crc) {
        throw unreadable(field, "its bytes do not match their checksum");
    }
    return read_npy(data, field);
}

std::string write_npz(const Arrays& arrays) {
    std::string out;
    constexpr size_t kHeader = 192;  // of one .npy file, or more
    size_t size = ZipWriter::kEndBytes;
    for (const NamedArray& each : arrays) {
        const size_t names = 2 * (each.name.size() + kSuffix.size());
        size += ZipWriter::kLocalBytes + ZipWriter::kDirectoryBytes + names + kHeader + each.array.bytes();
    }
    out.reserve(size);
    ZipWriter writer;
    for (const auto& [name, array] : arrays) {
        const NpyType type{kind(array.dtype), static_cast<int>(item_size(array.dtype)), false};
        const std::string header = make_npy_header(type, array.shape);
        const std::span<const std::byte> elements = array.span();
        const uint32_t crc = crc32(crc32(0, std::as_bytes(std::span(header))), elements);
        writer.begin_file(out, std::string(name) + std::string(kSuffix), crc,
                          static_cast<uint32_t>(header.size() + elements.size()));
        out += header;
        out.append(reinterpret_cast<const char*>(elements.data()), elements.size());
    }
    writer.end(out);
    return out;
}

}  // namespace opserve::native
