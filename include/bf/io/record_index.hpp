#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bf/io/crc32c.hpp"
#include "bf/io/record_io.hpp"

namespace bf {

/// One record of an index; 16 bytes, for a data set may have 40 million.
struct RecordEntry {
    std::uint64_t offset = 0;  ///< of its first part
    std::uint32_t key = 0;
    std::uint32_t label = 0;  ///< not part of an index file: what a data set makes of it
};

/// The label of an image as a class; nothing unless it is a whole number that f32 holds exactly (0..2^24).
inline std::optional<std::uint32_t> class_of(float label) {
    if (!(label >= 0 && label <= 16777216.0f) || label != std::floor(label)) return std::nullopt;
    return static_cast<std::uint32_t>(label);
}

/// By key; a data Error that names `name` if a key stands twice.
inline void sort_by_key(std::vector<RecordEntry>& entries, const std::string& name) {
    const auto before = [](const RecordEntry& a, const RecordEntry& b) { return a.key < b.key; };
    if (!std::is_sorted(entries.begin(), entries.end(), before)) std::sort(entries.begin(), entries.end(), before);
    for (std::size_t i = 1; i < entries.size(); ++i)
        BF_CHECK_DATA(entries[i - 1].key != entries[i].key, name, "key ", entries[i].key,
                      " stands twice, with the offsets ", std::min(entries[i - 1].offset, entries[i].offset), " and ",
                      std::max(entries[i - 1].offset, entries[i].offset));
}

/// Reads an `.idx` file: lines `key<TAB>offset` in any order; gives them by key. Keys are 0..2^32-1. A line that is
/// wrong, or a key that stands twice, is a data Error with file, line and byte. Memory: 16 bytes a line.
inline std::vector<RecordEntry> read_record_index(const Source& source) {
    constexpr std::size_t block = 1 << 20, longest = 64;
    std::vector<char> text;
    std::uint64_t lines = 1, from = 0;
    const auto load = [&](std::uint64_t at, std::size_t most) {
        text.resize(static_cast<std::size_t>(std::min<std::uint64_t>(most, source.size() - at)));
        source.read(at, std::as_writable_bytes(std::span(text)));
    };
    for (std::uint64_t at = 0; at < source.size(); at += text.size()) {  // counted first: no memory beyond the need
        load(at, block);
        lines += static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
    }
    std::vector<RecordEntry> entries;
    entries.reserve(static_cast<std::size_t>(std::min(lines, source.size() / 4 + 1)));  // the shortest is `0<TAB>0<LF>`
    for (std::uint64_t line = 1; from < source.size();) {
        load(from, block);
        const bool last = from + text.size() == source.size();
        std::size_t at = 0;
        while (at < text.size()) {
            const char* begin = text.data() + at;
            const char* found = static_cast<const char*>(std::memchr(begin, '\n', text.size() - at));
            if (!found && !last && text.size() - at <= longest) break;  // goes on in the next block
            const std::size_t length = static_cast<std::size_t>((found ? found : text.data() + text.size()) - begin);
            const auto number = [p = begin, end = begin + length](std::uint64_t most) mutable {
                while (p < end && (*p == ' ' || *p == '\t')) ++p;
                std::optional<std::uint64_t> value;
                for (; p < end && *p >= '0' && *p <= '9'; ++p) {
                    value = value.value_or(0) * 10 + static_cast<std::uint64_t>(*p - '0');
                    if (*value > most) return std::optional<std::uint64_t>();
                }
                while (p < end && *p == '\r') ++p;
                const bool ends = p == end || *p == '\t' || *p == ' ';
                return ends ? value : std::nullopt;
            };
            auto reader = number;
            const bool blank = std::all_of(begin, begin + length, [](char c) { return c == '\r' || c == ' '; });
            if (!blank) {
                const auto key = reader(0xffffffffu), offset = reader(std::uint64_t{1} << 60);
                BF_CHECK_DATA(
                    length <= longest && key && offset && !reader(1) && std::count(begin, begin + length, '\t') <= 1,
                    concat(source.name(), ":", line), "not `key<TAB>offset`; got ",
                    std::string_view(begin, std::min<std::size_t>(length, 60)), " (byte ", from + at, ")");
                entries.push_back({*offset, static_cast<std::uint32_t>(*key), 0});
            }
            at += length + (found ? 1 : 0);
            ++line;
        }
        from += at;
    }
    sort_by_key(entries, source.name());
    return entries;
}

/// A line of an `.idx` file.
inline std::string index_line(std::uint32_t key, std::uint64_t offset) {
    return std::to_string(key) + "\t" + std::to_string(offset) + "\n";
}

/// The records of a file that has no index, by key: the ids in their headers if each is there once, else 0, 1, 2, ...
/// in the file's order. Damaged stretches, and records without an image header, go to `damaged`; `progress(byte)` is
/// called now and then.
inline std::vector<RecordEntry> scan_records(
    const RecordReader& reader, const std::function<void(const ScannedRecord&)>& damaged,
    const std::function<void(std::uint64_t)>& progress = [](std::uint64_t) {}) {
    std::vector<RecordEntry> entries;
    bool small = true;
    RecordScan scan(reader);
    for (std::uint64_t count = 0; auto found = scan.next(); ++count) {
        if (count % 65536 == 65535) progress(found->offset);
        std::array<std::byte, ImageRecordHeader::most> front;
        if (found->damage.empty() && found->length < 24) found->damage = "no image header: shorter than 24 bytes";
        if (found->damage.empty() && entries.size() > 0xfffffffeu) found->damage = "more than 2^32 - 1 records";
        if (!found->damage.empty()) {
            damaged(*found);
            continue;
        }
        reader.head(found->offset, front);
        std::uint64_t id = 0;
        std::memcpy(&id, front.data() + 8, 8);
        small = small && id <= 0xffffffffu;
        entries.push_back({found->offset, static_cast<std::uint32_t>(id), 0});
    }
    const auto by_key = [](const RecordEntry& a, const RecordEntry& b) { return a.key < b.key; };
    const auto by_offset = [](const RecordEntry& a, const RecordEntry& b) { return a.offset < b.offset; };
    std::sort(entries.begin(), entries.end(), by_key);
    const bool unique = std::adjacent_find(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
                            return a.key == b.key;
                        }) == entries.end();
    if (small && unique) return entries;
    std::sort(entries.begin(), entries.end(), by_offset);
    for (std::size_t i = 0; i < entries.size(); ++i) entries[i].key = static_cast<std::uint32_t>(i);
    return entries;
}

/// What a record is.
enum class RecordKind : std::uint32_t {
    image = 0,
    list = 1,    ///< labels and no image: record 0 and the identity records of InsightFace's layout
    damaged = 2  ///< cannot be read, or has no label
};

/// What the checksum file of a record file (FILE.rec.sum, made by `bf index --write`) tells of one record.
struct RecordSum {
    std::uint64_t offset = 0;
    std::uint32_t key = 0;
    std::uint32_t crc = 0;  ///< crc32c of the payload
    float label = 0;        ///< of an image; NaN where it cannot be read
    RecordKind kind = RecordKind::image;
};
static_assert(sizeof(RecordSum) == 24);

/// Writes a checksum file. Little-endian: "BFRECSUM", u32 version 1, u32 0, u64 bytes of the .rec, u64 number of
/// records; for each, by rising key, the 24 bytes of a RecordSum; at last the u32 crc32c of all before it.
class RecordSumWriter {
  public:
    template <class Sink>
    RecordSumWriter(Sink&& sink, std::uint64_t record_file_size, std::uint64_t count) : sink_(sink) {
        const std::uint64_t layout = 1;
        add("BFRECSUM", 8);
        add(&layout, 8);
        add(&record_file_size, 8);
        add(&count, 8);
    }
    void add(const RecordSum& sum) { add(&sum, sizeof sum); }
    void finish() {
        buffer_.append(reinterpret_cast<const char*>(&crc_), 4);
        sink_(buffer_);
        buffer_.clear();
    }

  private:
    void add(const void* data, std::size_t size) {
        crc_ = crc32c(data, size, crc_);
        buffer_.append(static_cast<const char*>(data), size);
        if (buffer_.size() < (1 << 20)) return;
        sink_(buffer_);
        buffer_.clear();
    }
    std::function<void(std::string_view)> sink_;
    std::string buffer_;
    std::uint32_t crc_ = 0;
};

/// Calls visit(const RecordSum&) for each record of a checksum file. Throws a data Error unless the file is whole, its
/// own checksum is right and it was made for a record file of that size; what was visited before is then worthless.
template <class Visit>
void read_record_sums(const Source& source, std::uint64_t record_file_size, Visit&& visit) {
    const auto hint = "; hint: bf index FILE.rec --write makes it anew";
    char magic[8]{};
    if (source.size() >= 36) source.read(0, std::as_writable_bytes(std::span(magic)));
    BF_CHECK_DATA(std::memcmp(magic, "BFRECSUM", 8) == 0 && source.number<std::uint64_t>(8) == 1, source.name(),
                  "not a checksum file of version 1 (byte 0)", hint);
    const auto size = source.number<std::uint64_t>(16), count = source.number<std::uint64_t>(24);
    BF_CHECK_DATA(size == record_file_size, source.name(), "made for a record file of ", size, " bytes, and that has ",
                  record_file_size, " (byte 16)", hint);
    BF_CHECK_DATA((source.size() - 36) % sizeof(RecordSum) == 0 && count == (source.size() - 36) / sizeof(RecordSum),
                  source.name(), "is cut; got ", source.size(), " bytes for ", count, " records (byte 24)", hint);
    std::vector<RecordSum> block;
    std::array<std::byte, 32> header;
    source.read(0, header);
    std::uint32_t crc = crc32c(header.data(), header.size());
    std::optional<std::uint32_t> before;
    for (std::uint64_t i = 0; i < count; i += block.size()) {
        block.resize(static_cast<std::size_t>(std::min<std::uint64_t>(count - i, 32768)));
        source.read(32 + i * sizeof(RecordSum), std::as_writable_bytes(std::span(block)));
        crc = crc32c(block.data(), block.size() * sizeof(RecordSum), crc);
        for (const RecordSum& sum : block) {
            BF_CHECK_DATA((!before || sum.key > *before) && static_cast<std::uint32_t>(sum.kind) <= 2, source.name(),
                          "damaged near byte ", 32 + i * sizeof(RecordSum), hint);
            before = sum.key;
            visit(sum);
        }
    }
    BF_CHECK_DATA(crc == source.number<std::uint32_t>(source.size() - 4), source.name(),
                  "its own checksum is wrong: damaged (byte ", source.size() - 4, ")", hint);
}

}  // namespace bf
