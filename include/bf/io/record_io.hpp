#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/io/source.hpp"

// RecordIO, the container of MXNet's and InsightFace's `.rec` files (dmlc-core, recordio.h). Little-endian parts: u32
// magic; u32 flag << 29 | length; `length` bytes; zeros up to a multiple of 4. Flag 0 is a whole record, 1, 2, 3 its
// first, middle and last part: the writer cuts a record at each 4-aligned magic inside it and drops those 4 bytes, so
// that a magic at a multiple of 4 always begins a part. The reader puts them back.

namespace bf {

inline constexpr std::uint32_t record_magic = 0xced7230a;

struct RecordLimits {
    std::uint64_t max_record = std::uint64_t{65} << 20;  ///< bytes of a record's payload
};

/// Where a record lies, from the headers of its parts alone.
struct RecordExtent {
    std::uint64_t end = 0;     ///< first byte after it, padding included
    std::uint64_t length = 0;  ///< bytes of its payload
    std::uint64_t at = 0;      ///< the byte that `fault` is about
    const char* fault = nullptr;
};

/// Reads records by their offset. Safe from several threads; the source must outlive it.
class RecordReader {
  public:
    explicit RecordReader(const Source& source, const RecordLimits& limits = {}) : source_(source), limits_(limits) {}

    const Source& source() const { return source_; }
    const RecordLimits& limits() const { return limits_; }

    /// The payload of the record whose first part begins at `offset`. Throws a data Error that names file and byte.
    std::vector<std::byte> read(std::uint64_t offset) const {
        const RecordExtent extent = sound_extent(offset);
        std::vector<std::byte> payload(static_cast<std::size_t>(extent.length));
        copy(offset, payload);
        return payload;
    }
    /// Fills `out` with the first bytes of the record, as many as it has; returns the length of its payload. The usual
    /// record, of one part, costs one read.
    std::uint64_t head(std::uint64_t offset, std::span<std::byte> out) const {
        std::array<std::byte, 40> front{};
        if (offset % 4 == 0 && out.size() <= front.size() - 8 && offset < source_.size()) {
            const std::uint64_t got = std::min<std::uint64_t>(8 + out.size(), source_.size() - offset);
            source_.read(offset, std::span(front).first(static_cast<std::size_t>(got)));
            const Part part = part_of(front.data());
            if (got >= 8 && part.magic == record_magic && part.flag == 0 &&
                part.length <= source_.size() - offset - 8) {
                const std::size_t take = std::min<std::size_t>(out.size(), part.length);
                std::memcpy(out.data(), front.data() + 8, take);
                return part.length;
            }
        }
        const RecordExtent extent = sound_extent(offset);
        copy(offset, out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), extent.length))));
        return extent.length;
    }
    /// Follows the parts of the record at `offset`; what is wrong stands in `fault`.
    RecordExtent extent(std::uint64_t offset) const {
        RecordExtent e{.at = offset};
        const auto faulty = [&e](const char* what) {
            e.fault = what;
            return e;
        };
        if (offset % 4 != 0) return faulty("record offset is no multiple of 4");
        for (bool first = true;; first = false) {
            const std::optional<Part> part = part_at(e.at);
            if (!part) return faulty("file ends inside a record's header");
            if (part->magic != record_magic) return faulty("no magic number ce d7 23 0a where a record's part begins");
            if (part->flag > 3 || (part->flag < 2) != first) return faulty("part flag out of order");
            const bool last = part->flag == 0 || part->flag == 3;
            if (!last && part->length % 4 != 0) return faulty("inner part whose length is no multiple of 4");
            if (part->length > source_.size() - e.at - 8) return faulty("record is longer than the file");
            e.length += part->length + (last ? 0u : 4u);
            if (e.length > limits_.max_record) return faulty("record is longer than the limit");
            e.end = std::min(e.at + 8 + padded(part->length), source_.size());
            if (last) return e;
            e.at = e.end;
        }
    }
    /// True where a record may begin: a magic, a first flag, a length inside the file, and after the part another
    /// magic or the end.
    bool plausible(std::uint64_t offset) const {
        const std::optional<Part> part = part_at(offset);
        if (!part || part->magic != record_magic || part->flag > 1) return false;
        const std::uint64_t end = offset + 8 + padded(part->length);
        if (part->length > source_.size() - offset - 8) return false;
        return end >= source_.size() || begins_part(end);
    }
    /// True if a part's magic stands at `offset`.
    bool begins_part(std::uint64_t offset) const {
        const std::optional<Part> part = part_at(offset);
        return part && part->magic == record_magic;
    }

  private:
    struct Part {
        std::uint32_t magic, flag, length;
    };
    static std::uint64_t padded(std::uint64_t length) { return (length + 3) / 4 * 4; }

    std::optional<Part> part_at(std::uint64_t offset) const {
        if (offset > source_.size() || source_.size() - offset < 8) return std::nullopt;
        std::array<std::byte, 8> bytes;
        source_.read(offset, bytes);
        return part_of(bytes.data());
    }
    static Part part_of(const std::byte* bytes) {
        std::uint32_t words[2];
        std::memcpy(words, bytes, sizeof words);
        return {words[0], words[1] >> 29, words[1] & 0x1fffffffu};
    }
    RecordExtent sound_extent(std::uint64_t offset) const {
        const RecordExtent e = extent(offset);
        BF_CHECK_DATA(!e.fault, source_.name(), "record at byte ", offset, ": ", e.fault, " (byte ", e.at, " of ",
                      source_.size(), ")");
        return e;
    }
    /// Copies the first bytes of a sound record, with the magic between parts.
    void copy(std::uint64_t offset, std::span<std::byte> out) const {
        while (!out.empty()) {
            const Part part = *part_at(offset);
            const std::size_t take = std::min<std::size_t>(part.length, out.size());
            source_.read(offset + 8, out.first(take));
            out = out.subspan(take);
            const std::size_t joint = std::min(sizeof record_magic, out.size());
            if (joint) std::memcpy(out.data(), &record_magic, joint);
            out = out.subspan(joint);
            offset += 8 + part.length;
        }
    }

    const Source& source_;
    RecordLimits limits_;
};

/// A stretch of a record file: one record, or bytes that are none.
struct ScannedRecord {
    std::uint64_t offset = 0, end = 0;
    std::uint64_t length = 0;  ///< bytes of the payload
    std::string damage;        ///< empty: a record
};

/// Goes through a record file from front to end by the headers of its parts. After damage it goes on at the next
/// plausible header. A length that was changed to a smaller one inside the record gives a record too short and then a
/// damaged stretch: only its content can tell.
class RecordScan {
  public:
    explicit RecordScan(const RecordReader& reader) : reader_(reader), size_(reader.source().size()) {}

    /// The next stretch; nothing at the end of the file.
    std::optional<ScannedRecord> next() {
        if (at_ >= size_) return std::nullopt;
        ScannedRecord found;
        found.offset = at_;
        const RecordExtent e = reader_.extent(at_);
        if (e.fault) {
            found.damage = concat(e.fault, " (byte ", e.at, ")");
            found.end = search(at_ + 4);
        } else {
            found.end = e.end;
            found.length = e.length;
            if (e.end < size_ && !reader_.begins_part(e.end)) {
                const std::uint64_t following = search(at_ + 8);
                if (following < e.end) {
                    found.damage = concat("its length reaches into the record at byte ", following);
                    found.end = following;
                }
            }
        }
        at_ = found.end;
        return found;
    }

  private:
    /// The first 4-aligned plausible header from `from` on, or the end of the file.
    std::uint64_t search(std::uint64_t from) {
        constexpr std::uint64_t block = 1 << 16;
        std::vector<std::uint32_t> words;
        for (; size_ >= 8 && from <= size_ - 8; from += 4 * words.size()) {
            words.resize(static_cast<std::size_t>(std::min(block, (size_ - from) / 4 * 4) / 4));
            reader_.source().read(from, std::as_writable_bytes(std::span(words)));
            for (std::size_t i = 0; i < words.size(); ++i)
                if (words[i] == record_magic && reader_.plausible(from + 4 * i)) return from + 4 * i;
        }
        return size_;
    }

    const RecordReader& reader_;
    std::uint64_t at_ = 0, size_;
};

/// Appends one record to `out`, whose size must be a multiple of 4. Throws a usage Error from 2^29 bytes on.
inline void append_record(std::vector<std::byte>& out, std::span<const std::byte> payload) {
    BF_CHECK(payload.size() < (std::size_t{1} << 29), "append_record", "record too long; got ", payload.size(),
             " bytes, want less than 2^29");
    const auto number = [&out](std::uint32_t value) {
        const auto bytes = std::as_bytes(std::span(&value, 1));
        out.insert(out.end(), bytes.begin(), bytes.end());
    };
    const auto part = [&](std::uint32_t flag, std::size_t begin, std::size_t end) {
        number(record_magic);
        number(flag << 29 | static_cast<std::uint32_t>(end - begin));
        out.insert(out.end(), payload.begin() + static_cast<std::ptrdiff_t>(begin),
                   payload.begin() + static_cast<std::ptrdiff_t>(end));
    };
    std::size_t begin = 0;
    for (std::size_t i = 0; i + 4 <= payload.size(); i += 4) {
        if (std::memcmp(payload.data() + i, &record_magic, 4) != 0) continue;
        part(begin == 0 ? 1 : 2, begin, i);
        begin = i + 4;
    }
    part(begin == 0 ? 0 : 3, begin, payload.size());
    out.resize((out.size() + 3) / 4 * 4);
}

/// MXNet's header in front of an image inside a record (IRHeader, 24 bytes, then `flag` f32 labels).
struct ImageRecordHeader {
    std::uint32_t flag = 0;  ///< 0: `label` is the label; else the number of labels that follow the header
    float label = 0;
    std::uint64_t id = 0, id2 = 0;
    std::array<float, 2> labels{};  ///< the first two of an array of labels
    std::uint64_t size = 24;        ///< bytes, labels included: where the image begins

    /// The identity: element 0 of an array, else the scalar.
    float identity() const { return flag > 0 ? labels[0] : label; }

    static constexpr std::size_t most = 32;  ///< bytes of a payload that parse() looks at
    /// Reads the header at the front of a payload of `length` bytes, of which the first min(length, most) are given.
    static ImageRecordHeader parse(std::span<const std::byte> front, std::uint64_t length, const std::string& name) {
        BF_CHECK_DATA(length >= 24 && front.size() >= 24, name, "no image header; got a record of ", length,
                      " bytes, want 24 or more");
        ImageRecordHeader h;
        std::memcpy(&h.flag, front.data(), 4);
        std::memcpy(&h.label, front.data() + 4, 4);
        std::memcpy(&h.id, front.data() + 8, 8);
        std::memcpy(&h.id2, front.data() + 16, 8);
        h.size = 24 + std::uint64_t{4} * h.flag;
        BF_CHECK_DATA(h.size <= length, name, "image header; got ", h.flag, " labels in a record of ", length,
                      " bytes");
        std::memcpy(h.labels.data(), front.data() + 24,
                    std::min<std::uint64_t>({h.size - 24, front.size() - 24, sizeof h.labels}));
        return h;
    }
    /// The header and `array` of labels (none: the scalar) as they stand in a file.
    static std::vector<std::byte> bytes(float label, std::span<const float> array, std::uint64_t id,
                                        std::uint64_t id2 = 0) {
        std::vector<std::byte> out(24 + array.size_bytes());
        const auto flag = static_cast<std::uint32_t>(array.size());
        std::memcpy(out.data(), &flag, 4);
        std::memcpy(out.data() + 4, &label, 4);
        std::memcpy(out.data() + 8, &id, 8);
        std::memcpy(out.data() + 16, &id2, 8);
        if (!array.empty()) std::memcpy(out.data() + 24, array.data(), array.size_bytes());
        return out;
    }
};

}  // namespace bf
