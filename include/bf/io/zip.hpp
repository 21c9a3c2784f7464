#pragma once
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "bf/io/crc32c.hpp"
#include "bf/io/inflate.hpp"
#include "bf/io/printable.hpp"
#include "bf/io/source.hpp"

// Zip archives (PKWARE APPNOTE 6.3.10), stored and deflated, zip64 included: what .npz and .pth files are. All records
// are checked against each other before an entry is read; whatever two readers could understand differently is refused.

namespace bf {

/// One file of an archive.
struct ZipEntry {
    std::string name;
    bool deflated = false;
    std::uint32_t crc = 0;
    std::uint64_t packed = 0, size = 0;   ///< bytes in the archive, bytes of content
    std::uint64_t header = 0, begin = 0;  ///< where its local header and its bytes start
};

/// Some bytes of another source, which must outlive it.
class SliceSource : public Source {
  public:
    SliceSource(const Source& whole, std::uint64_t begin, std::uint64_t size, std::string name)
        : whole_(&whole), begin_(begin), size_(size), name_(std::move(name)) {
        BF_CHECK_DATA(begin <= whole.size() && size <= whole.size() - begin, name_, "ends early at byte ", whole.size(),
                      "; want ", size, " bytes from byte ", begin);
    }
    const std::string& name() const override { return name_; }
    std::uint64_t size() const override { return size_; }

  private:
    void fetch(std::uint64_t offset, std::span<std::byte> out) const override { whole_->read(begin_ + offset, out); }
    const Source* whole_;
    std::uint64_t begin_, size_;
    std::string name_;
};

/// A zip archive over a source, which must outlive it. Bounds: 50,000 entries, names of 1,024 bytes, no entry larger
/// than four times the archive + 8 MiB. Refused: encryption, several disks, methods other than stored and deflate,
/// names that leave the folder or come twice, entries that overlap, records that contradict each other. Reading
/// deflated entries wants bf::images linked.
class ZipArchive {
  public:
    static constexpr std::uint64_t max_entries = 50'000, max_name = 1024;

    explicit ZipArchive(const Source& source) : source_(&source) {
        read_directory();
        for (ZipEntry& e : entries_) read_local_header(e);
        check_overlap();
    }
    /// True if the source starts as a zip archive does.
    static bool is_zip(const Source& source) {
        return source.size() >= 22 &&
               (source.number<std::uint32_t>(0) == local_magic || source.number<std::uint32_t>(0) == end_magic);
    }
    /// Sorted by name.
    const std::vector<ZipEntry>& entries() const { return entries_; }
    /// The entry of that name, or nullptr.
    const ZipEntry* find(std::string_view name) const {
        const auto it = std::lower_bound(entries_.begin(), entries_.end(), name,
                                         [](const ZipEntry& e, std::string_view n) { return e.name < n; });
        return it == entries_.end() || it->name != name ? nullptr : &*it;
    }
    /// A stored entry where it lies in the archive, after its CRC has been checked.
    SliceSource stored(const ZipEntry& e) const {
        if (e.deflated) bad(e.name, "is compressed; hint: want it stored");
        std::vector<std::byte> window(static_cast<std::size_t>(std::min<std::uint64_t>(e.size, 1 << 18)));
        std::uint32_t crc = 0;
        for (std::uint64_t done = 0; done < e.size;) {
            const auto part = std::span(window).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), e.size - done)));
            source_->read(e.begin + done, part);
            crc = crc32(part.data(), part.size(), crc);
            done += part.size();
        }
        check_crc(e, crc);
        return {*source_, e.begin, e.size, concat(source_->name(), ": ", printable(e.name))};
    }
    /// The content of an entry, its CRC checked.
    std::vector<std::byte> bytes(const ZipEntry& e) const {
        std::vector<std::byte> out(static_cast<std::size_t>(e.size));
        if (e.deflated)
            inflate(*source_, e.begin, e.packed, out);
        else
            source_->read(e.begin, out);
        check_crc(e, crc32(out.data(), out.size()));
        return out;
    }
    const Source& source() const { return *source_; }

  private:
    static constexpr std::uint32_t local_magic = 0x04034b50, central_magic = 0x02014b50, end_magic = 0x06054b50,
                                   end64_magic = 0x06064b50, locator_magic = 0x07064b50, saturated = 0xFFFFFFFF;

    template <class... Parts>
    [[noreturn]] void bad(const std::string& entry, const Parts&... parts) const {
        fail(ErrorCode::data, source_->name(), "zip", entry.empty() ? "" : " entry ", printable(entry), ": ", parts...);
    }
    void check_crc(const ZipEntry& e, std::uint32_t crc) const {
        if (crc != e.crc) bad(e.name, "damaged from byte ", e.begin, " on: CRC-32; got ", crc, ", want ", e.crc);
    }
    template <class T>
    static T at(const std::vector<std::byte>& bytes, std::uint64_t offset) {
        T value;
        std::memcpy(&value, bytes.data() + offset, sizeof(T));
        return value;
    }
    void read_directory();
    void read_local_header(ZipEntry& e) const;
    void check_name(const std::string& name) const;
    void check_overlap() const;

    const Source* source_;
    std::vector<ZipEntry> entries_;
    std::uint64_t directory_ = 0;  ///< where the central directory starts: entries end before it
};

inline void ZipArchive::read_directory() {
    const std::uint64_t size = source_->size();
    if (size < 22) bad("", "ends early; got ", size, " bytes, want at least 22");
    // the end record stands before a comment of up to 65535 bytes that reaches the last byte
    const std::uint64_t tail_at = size > 65557 ? size - 65557 : 0;
    const std::vector<std::byte> tail = source_->bytes(tail_at, size - tail_at);
    std::uint64_t end = tail.size() - 22;
    while (at<std::uint32_t>(tail, end) != end_magic || end + 22 + at<std::uint16_t>(tail, end + 20) != tail.size())
        if (end-- == 0) bad("", "has no end record; hint: is the file cut?");
    std::uint64_t disk = at<std::uint16_t>(tail, end + 4) | at<std::uint16_t>(tail, end + 6),
                  here = at<std::uint16_t>(tail, end + 8), count = at<std::uint16_t>(tail, end + 10),
                  bytes = at<std::uint32_t>(tail, end + 12);
    directory_ = at<std::uint32_t>(tail, end + 16);
    std::uint64_t stop = tail_at + end;
    if (stop >= 20 && source_->number<std::uint32_t>(stop - 20) == locator_magic) {
        const auto record = source_->number<std::uint64_t>(stop - 12);
        if (source_->number<std::uint32_t>(stop - 4) > 1 || source_->number<std::uint32_t>(stop - 16) != 0)
            bad("", "spans several disks");
        const std::vector<std::byte> end64 = source_->bytes(record, 56);
        if (at<std::uint32_t>(end64, 0) != end64_magic || at<std::uint64_t>(end64, 4) != stop - 20 - record - 12)
            bad("", "no zip64 end record at byte ", record);
        disk = at<std::uint32_t>(end64, 16) | at<std::uint32_t>(end64, 20);
        const std::array<std::uint64_t, 4> wide{at<std::uint64_t>(end64, 24), at<std::uint64_t>(end64, 32),
                                                at<std::uint64_t>(end64, 40), at<std::uint64_t>(end64, 48)};
        const std::array<std::pair<std::uint64_t, std::uint64_t>, 4> narrow{
            {{here, 0xFFFF}, {count, 0xFFFF}, {bytes, saturated}, {directory_, saturated}}};
        for (std::size_t i = 0; i < 4; ++i)
            if (narrow[i].first != narrow[i].second && narrow[i].first != wide[i])
                bad("", "its end record and its zip64 end record differ; got ", narrow[i].first, " and ", wide[i]);
        here = wide[0];
        count = wide[1];
        bytes = wide[2];
        directory_ = wide[3];
        stop = record;
    }
    if (disk != 0 || here != count) bad("", "spans several disks");
    if (directory_ > stop || bytes != stop - directory_)
        bad("", "central directory; got ", bytes, " bytes at byte ", directory_, ", want it to end at byte ", stop);
    if (count > max_entries || count > bytes / 46)
        bad("", "got ", count, " entries in a directory of ", bytes, " bytes, want at most ", max_entries);
    const std::vector<std::byte> d = source_->bytes(directory_, bytes);
    entries_.reserve(static_cast<std::size_t>(count));
    std::uint64_t p = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (d.size() - p < 46 || at<std::uint32_t>(d, p) != central_magic)
            bad("", "no directory record at byte ", directory_ + p);
        const std::uint64_t name = at<std::uint16_t>(d, p + 28), extra = at<std::uint16_t>(d, p + 30),
                            comment = at<std::uint16_t>(d, p + 32);
        if (name + extra + comment > d.size() - p - 46) bad("", "directory record at byte ", directory_ + p, " is cut");
        ZipEntry e;
        e.name.assign(reinterpret_cast<const char*>(d.data() + p + 46), name);
        check_name(e.name);
        const auto flags = at<std::uint16_t>(d, p + 8), method = at<std::uint16_t>(d, p + 10);
        if (flags & 0x2061) bad(e.name, "is encrypted or a patch; hint: save it without a password");
        if (method != 0 && method != 8) bad(e.name, "compression method ", method, "; want 0 (stored) or 8 (deflate)");
        e.deflated = method == 8;
        e.crc = at<std::uint32_t>(d, p + 16);
        e.packed = at<std::uint32_t>(d, p + 20);
        e.size = at<std::uint32_t>(d, p + 24);
        e.header = at<std::uint32_t>(d, p + 42);
        std::uint64_t on_disk = at<std::uint16_t>(d, p + 34);
        // zip64: the values that did not fit follow in this order
        for (std::uint64_t x = p + 46 + name, last = x + extra; last - x >= 4;) {
            const std::uint64_t length = at<std::uint16_t>(d, x + 2), body = x + 4;
            if (length > last - body) bad(e.name, "extra field is cut");
            if (at<std::uint16_t>(d, x) == 1) {
                std::uint64_t used = 0;
                for (std::uint64_t* value : {&e.size, &e.packed, &e.header}) {
                    if (*value != saturated) continue;
                    if (length - used < 8) bad(e.name, "zip64 field is cut");
                    *value = at<std::uint64_t>(d, body + used);
                    used += 8;
                }
                if (on_disk == 0xFFFF && length - used >= 4) on_disk = at<std::uint32_t>(d, body + used);
            }
            x = body + length;
        }
        if (on_disk != 0) bad(e.name, "lies on another disk");
        if (!e.deflated && e.packed != e.size)
            bad(e.name, "stored; got ", e.packed, " bytes for a content of ", e.size);
        // deflate makes at most 1032 bytes of one
        if (e.size > 4 * size + (std::uint64_t{8} << 20) || e.size / 1032 > e.packed)
            bad(e.name, "unfolds from ", e.packed, " to ", e.size,
                " bytes; want at most four times the archive + 8 MiB; hint: save it uncompressed");
        entries_.push_back(std::move(e));
        p += 46 + name + extra + comment;
    }
    if (p != d.size()) bad("", "more directory than its ", count, " entries at byte ", directory_ + p);
    std::sort(entries_.begin(), entries_.end(), [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < entries_.size(); ++i)
        if (entries_[i].name == entries_[i - 1].name) bad(entries_[i].name, "is there twice");
}

inline void ZipArchive::check_name(const std::string& name) const {
    if (name.empty() || name.size() > max_name) bad("", "a name of ", name.size(), " bytes; want 1..", max_name);
    bool good = name[0] != '/' && name.find('\\') == std::string::npos && name.find('\0') == std::string::npos &&
                !(name.size() > 1 && name[1] == ':');
    for (std::size_t from = 0; good && from < name.size();) {
        const std::size_t slash = std::min(name.find('/', from), name.size());
        good = name.compare(from, slash - from, "..") != 0;
        from = slash + 1;
    }
    if (!good) bad(name, "a path that leaves the archive's folder");
}

inline void ZipArchive::read_local_header(ZipEntry& e) const {
    if (e.header > directory_ || directory_ - e.header < 30)
        bad(e.name, "its header is said to lie at byte ", e.header);
    const std::vector<std::byte> h =
        source_->bytes(e.header, std::min<std::uint64_t>(directory_ - e.header, 30 + e.name.size()));
    if (at<std::uint32_t>(h, 0) != local_magic) bad(e.name, "no header at byte ", e.header);
    const auto flags = at<std::uint16_t>(h, 6);
    if (h.size() < 30 + e.name.size() || at<std::uint16_t>(h, 26) != e.name.size() ||
        std::memcmp(h.data() + 30, e.name.data(), e.name.size()) != 0)
        bad(e.name, "has another name in its header at byte ", e.header);
    if (flags & 0x2061) bad(e.name, "is encrypted or a patch; hint: save it without a password");
    bool same = at<std::uint16_t>(h, 8) == (e.deflated ? 8 : 0);
    if (!(flags & 8)) {  // with bit 3 the numbers follow the content
        const auto fits = [](std::uint32_t local, std::uint64_t value) { return local == value || local == saturated; };
        same = same && at<std::uint32_t>(h, 14) == e.crc && fits(at<std::uint32_t>(h, 18), e.packed) &&
               fits(at<std::uint32_t>(h, 22), e.size);
    }
    if (!same) bad(e.name, "its header at byte ", e.header, " and the directory differ");
    e.begin = e.header + 30 + e.name.size() + at<std::uint16_t>(h, 28);
    if (e.begin > directory_ || e.packed > directory_ - e.begin)
        bad(e.name, "got ", e.packed, " bytes from byte ", e.begin, ", want them before the directory at ", directory_);
}

inline void ZipArchive::check_overlap() const {
    std::vector<const ZipEntry*> by_place;
    by_place.reserve(entries_.size());
    for (const ZipEntry& e : entries_) by_place.push_back(&e);
    std::sort(by_place.begin(), by_place.end(),
              [](const ZipEntry* a, const ZipEntry* b) { return a->header < b->header; });
    for (std::size_t i = 1; i < by_place.size(); ++i)
        if (by_place[i - 1]->begin + by_place[i - 1]->packed > by_place[i]->header)
            bad(by_place[i]->name, "overlaps ", printable(by_place[i - 1]->name), " at byte ", by_place[i]->header);
}

}  // namespace bf
