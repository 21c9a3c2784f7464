#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/data/dataset.hpp"
#include "bf/data/decode.hpp"
#include "bf/io/record_index.hpp"

namespace bf {

struct RecordDatasetOptions {
    std::int64_t min_images = 1;  ///< identities with fewer images are left out
    RecordLimits limits{};
    DecodeLimits decode{};
    /// Called now and then while labels are read from each image's header: (done, of).
    std::function<void(std::int64_t, std::int64_t)> progress = [](std::int64_t, std::int64_t) {};
};

/// Images in a record file of InsightFace (train.rec, train.idx, property) or of MXNet's im2rec, by rising key; 16
/// bytes of memory an image. Opening reads the index and no image. Labels come, in this order, from the checksum file
/// FILE.rec.sum if there is one; from the identity records (record 0 has labels (A, B), records A..B-1 the key range of
/// an identity each); else from the header of each image. A and B and the ranges are f32, exact to 2^24 only: they are
/// taken as the rounding of keys that index and headers tell exactly, and what does not fit is read from the headers.
/// Labels are renumbered 0..K-1 in their order. Without an index the file is scanned. Link bf::images.
class RecordDataset : public Dataset {
  public:
    /// A `.rec`, or a folder with train.rec. Beside X.rec stand X.idx and X.rec.sum.
    explicit RecordDataset(const std::filesystem::path& path, const RecordDatasetOptions& options = {})
        : RecordDataset(std::make_shared<FileSource>(record_file(path)), source(record_file(path), ".idx").get(),
                        source(record_file(path), ".rec.sum").get(), options) {
        compare_property(record_file(path));
    }
    /// The same from sources; `index` and `sums` may be null and are not kept.
    RecordDataset(std::shared_ptr<const Source> records, const Source* index, const Source* sums,
                  const RecordDatasetOptions& options = {})
        : source_(std::move(records)), reader_(*source_, options.limits), decode_(options.decode) {
        if (index) {
            entries_ = read_record_index(*index);
        } else {
            std::uint64_t damaged = 0;
            entries_ = scan_records(reader_, [&damaged](const ScannedRecord&) { ++damaged; });
            notes_.push_back(concat(source_->name(), " has no .idx: scanned, ", entries_.size(), " records"));
            if (damaged) notes_.push_back(concat(damaged, " damaged stretches left out; hint: bf index lists them"));
        }
        BF_CHECK_DATA(!entries_.empty(), index ? index->name() : source_->name(), "has no record");
        if (sums)
            labels_from_sums(*sums);
        else if (!labels_from_identities())
            labels_from_headers(options.progress);
        finish(options.min_images);
    }

    std::int64_t size() const override { return static_cast<std::int64_t>(entries_.size()); }
    std::int64_t identities() const override { return identities_; }
    std::int64_t label(std::int64_t i) const override { return at(i).label & ~unreadable; }
    std::string name(std::int64_t i) const override { return source_->name() + "#key " + std::to_string(at(i).key); }
    Image image(std::int64_t i) const override {
        Image image;
        load(i, 0, image);
        return image;
    }
    void load(std::int64_t i, int wanted_side, Image& into) const override {
        const std::string called = concat(name(i), " (byte ", at(i).offset, ")");
        const std::vector<std::byte> payload = read(i, called);
        // its pixels may be sound: with another image's label they would teach something wrong
        BF_CHECK_DATA(!(at(i).label & unreadable), called,
                      "its label cannot be read, or is no whole number in 0..2^24");
        DecodeLimits limits = decode_;
        if (wanted_side > 0) limits.wanted_side = wanted_side;
        decode_image(std::span(payload).subspan(image_begin(payload, called)), called, into, limits);
    }
    /// The file of image i (JPEG or PNG) as it stands in its record.
    std::vector<std::byte> encoded(std::int64_t i) const {
        std::vector<std::byte> payload = read(i, name(i));
        payload.erase(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(image_begin(payload, name(i))));
        return payload;
    }
    std::uint32_t key(std::int64_t i) const { return at(i).key; }
    /// Where the labels came from: "checksum file", "identity records" or "image headers".
    const std::string& labels_from() const { return labels_from_; }
    /// What a user should know: no index, labels that did not fit, a property file that says something else.
    const std::vector<std::string>& notes() const { return notes_; }
    /// A checksum over keys, offsets and labels: 1 s for 60 million images.
    std::uint32_t fingerprint() const { return crc32c(entries_.data(), entries_.size() * sizeof(RecordEntry)); }

  private:
    static constexpr std::uint32_t no_image = 0xffffffffu, no_label = 0xfffffffeu;
    static constexpr std::uint32_t unreadable = 0x80000000u;  ///< bit of a label that is not the image's own
    struct Head {
        ImageRecordHeader header;
        std::uint64_t length = 0;
        bool good = false;
        bool empty() const { return length == header.size; }
    };

    static std::filesystem::path record_file(const std::filesystem::path& path) {
        if (!std::filesystem::is_directory(path)) return path;
        BF_CHECK_DATA(std::filesystem::exists(path / "train.rec"), path.string(),
                      "has no train.rec; hint: name the folder of train.rec, or a .rec file");
        return path / "train.rec";
    }
    static std::unique_ptr<FileSource> source(std::filesystem::path file, const char* ending) {
        file.replace_extension(ending);
        return std::filesystem::exists(file) ? std::make_unique<FileSource>(file) : nullptr;
    }
    const RecordEntry& at(std::int64_t i) const {
        BF_CHECK(i >= 0 && i < size(), "RecordDataset", "index; got ", i, ", want 0..", size() - 1);
        return entries_[static_cast<std::size_t>(i)];
    }
    std::vector<std::byte> read(std::int64_t i, const std::string& called) const {
        try {
            return reader_.read(at(i).offset);
        } catch (const Error& e) {
            fail(e.code(), called, e.what());
        }
    }
    static std::size_t image_begin(const std::vector<std::byte>& payload, const std::string& called) {
        return static_cast<std::size_t>(ImageRecordHeader::parse(payload, payload.size(), called).size);
    }
    Head head(const RecordEntry& entry) const {
        Head h;
        std::array<std::byte, ImageRecordHeader::most> front;
        try {
            h.length = reader_.head(entry.offset, front);
            h.header = ImageRecordHeader::parse(front, h.length, source_->name());
            h.good = true;
        } catch (const Error& e) {
            if (e.code() != ErrorCode::data) throw;
        }
        return h;
    }

    void labels_from_sums(const Source& sums) {
        labels_from_ = "checksum file";
        std::size_t i = 0;
        const auto stale = [&](std::uint32_t key) {
            fail(ErrorCode::data, sums.name(), "does not fit the .idx at key ", key,
                 "; hint: bf index FILE.rec --write makes it anew");
        };
        read_record_sums(sums, source_->size(), [&](const RecordSum& sum) {
            if (i == entries_.size() || entries_[i].key != sum.key || entries_[i].offset != sum.offset) stale(sum.key);
            const auto label = class_of(sum.label);
            entries_[i++].label = sum.kind == RecordKind::list ? no_image : label.value_or(no_label);
        });
        if (i < entries_.size()) stale(entries_[i].key);
        constexpr std::size_t samples = 64;  // a record file of the same size in its place shows here
        for (std::size_t s = 0; s < samples; ++s) {
            const RecordEntry& e = entries_[s * entries_.size() / samples];
            if (e.label == no_image || e.label == no_label) continue;
            const Head h = head(e);
            if (h.good && class_of(h.header.identity()) != e.label) stale(e.key);
        }
    }

    /// False, with a note where that is a surprise, if there are none or they do not fit index and images.
    bool labels_from_identities() {
        if (entries_.front().key != 0) return false;
        const Head zero = head(entries_.front());
        if (!zero.good || zero.header.flag < 2 || !zero.empty()) return false;
        const float a = zero.header.labels[0], b = zero.header.labels[1];
        identities_from_ = a;
        const auto wrong = [&](const auto&... what) {
            notes_.push_back(concat(what..., ": labels are read from each image's header"));
            return false;
        };
        const auto as_float = [](std::uint64_t key) { return static_cast<float>(key); };
        // the first identity record: the first without an image among the keys that round to A
        auto first = std::partition_point(entries_.begin(), entries_.end(),
                                          [&](const RecordEntry& e) { return as_float(e.key) < a; });
        const auto is_identity = [](const Head& h) { return h.good && h.header.flag == 2 && h.empty(); };
        while (first != entries_.end() && as_float(first->key) == a && !is_identity(head(*first))) ++first;
        if (first == entries_.end() || as_float(first->key) != a ||
            as_float(std::uint64_t{entries_.back().key} + 1) != b)
            return wrong("record 0 names identity records (A, B) that the index does not have");
        const auto begin = static_cast<std::size_t>(first - entries_.begin()), count = entries_.size() - begin;
        std::vector<std::array<float, 2>> ranges(count);
        std::atomic<bool> all = true;
        parallel_for(static_cast<std::int64_t>(count), 1024, [&](std::int64_t from, std::int64_t to) {
            for (auto k = static_cast<std::size_t>(from); k < static_cast<std::size_t>(to); ++k) {
                const Head h = head(entries_[begin + k]);
                if (!is_identity(h)) all = false;
                ranges[k] = h.header.labels;
            }
        });
        for (std::size_t k = 0; k < count; ++k)
            all = all && ranges[k][0] <= ranges[k][1] && (k == 0 || ranges[k - 1][1] <= ranges[k][0]);
        if (!all) return wrong("identity records are damaged or not in order");
        // the identity of each image; where f32 cannot tell on which side of a border it is, its own header does
        std::size_t k = 0;
        for (std::size_t i = 1; i < begin; ++i) {
            const float f = as_float(entries_[i].key);
            const bool exact = entries_[i].key < 16777216u;  // 2^24 may be 2^24 + 1, rounded
            while (k + 1 < count && (exact ? f >= ranges[k + 1][0] : f > ranges[k + 1][0])) ++k;
            std::size_t own = k;
            if (!exact && (f == ranges[k][0] || f == ranges[k][1] || (k + 1 < count && f == ranges[k + 1][0]))) {
                const Head h = head(entries_[i]);
                const auto label = class_of(h.header.identity());
                if (!h.good || !label || *label >= count)
                    return wrong("image of key ", entries_[i].key, " has no label");
                own = *label;
            }
            if (!(f >= ranges[own][0] && (exact ? f < ranges[own][1] : f <= ranges[own][1])))
                return wrong("image of key ", entries_[i].key, " belongs to no identity record");
            entries_[i].label = static_cast<std::uint32_t>(own);
        }
        constexpr std::size_t samples = 512;
        for (std::size_t s = 0; s < samples && begin > 1; ++s) {
            const RecordEntry& e = entries_[1 + s * (begin - 1) / samples];
            const Head h = head(e);
            if (h.good && class_of(h.header.identity()) != e.label)
                return wrong("image of key ", e.key, " has label ", h.header.identity(),
                             ", its identity record is number ", e.label);
        }
        labels_from_ = "identity records";
        entries_.resize(begin);
        entries_.front().label = no_image;
        return true;
    }

    void labels_from_headers(const std::function<void(std::int64_t, std::int64_t)>& progress) {
        labels_from_ = "image headers";
        constexpr std::int64_t block = 65536;
        const auto count = static_cast<std::int64_t>(entries_.size());
        for (std::int64_t from = 0; from < count; from += block) {
            parallel_for(std::min(block, count - from), 512, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = from + begin; i < from + end; ++i) {
                    RecordEntry& e = entries_[static_cast<std::size_t>(i)];
                    const Head h = head(e);
                    if (h.good)
                        e.label = h.empty() ? no_image : class_of(h.header.identity()).value_or(no_label);
                    else
                        e.label = static_cast<float>(e.key) >= identities_from_ ? no_image : no_label;
                }
            });
            progress(std::min(from + block, count), count);
        }
    }

    /// Leaves images alone, each with a label 0..K-1. A damaged record without a label keeps its place, so that reading
    /// it is an error that a loader counts; it gets the label of the image before it.
    void finish(std::int64_t min_images) {
        std::erase_if(entries_, [](const RecordEntry& e) { return e.label == no_image; });
        std::size_t unknown = 0;
        std::uint32_t before = no_label;
        for (const RecordEntry& e : entries_)
            if (e.label != no_label) {
                before = e.label;
                break;
            }
        BF_CHECK_DATA(before != no_label, source_->name(), "has no readable image; got ", entries_.size(),
                      " records that are none");
        std::vector<std::uint32_t> labels{before};
        for (RecordEntry& e : entries_) {
            if (e.label == no_label) {
                e.label = before | unreadable;
                ++unknown;
            } else if (e.label != before) {
                labels.push_back(before = e.label);
            }
        }
        if (unknown) notes_.push_back(concat(unknown, " damaged records: their labels cannot be read"));
        std::sort(labels.begin(), labels.end());
        labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
        const auto renumber = [&] {
            std::size_t place = 0;
            for (RecordEntry& e : entries_) {
                const std::uint32_t label = e.label & ~unreadable;
                if (labels[place] != label)
                    place = static_cast<std::size_t>(std::lower_bound(labels.begin(), labels.end(), label) -
                                                     labels.begin());
                e.label = static_cast<std::uint32_t>(place) | (e.label & unreadable);
            }
        };
        if (labels.back() + 1 != labels.size()) renumber();
        if (min_images > 1) {
            std::vector<std::int64_t> count(labels.size());
            for (const RecordEntry& e : entries_) ++count[e.label & ~unreadable];
            std::erase_if(entries_, [&](const RecordEntry& e) { return count[e.label & ~unreadable] < min_images; });
            BF_CHECK_DATA(!entries_.empty(), source_->name(), "has no identity with at least ", min_images, " images");
            labels.clear();
            for (std::uint32_t k = 0; k < count.size(); ++k)
                if (count[k] >= min_images) labels.push_back(k);
            renumber();
        }
        identities_ = static_cast<std::int64_t>(labels.size());
        if (entries_.capacity() / 2 > entries_.size()) entries_.shrink_to_fit();  // it copies: not for a few
    }

    /// `property` holds `identities,height,width`; it belongs to train.rec.
    void compare_property(const std::filesystem::path& file) {
        const std::filesystem::path path = file.parent_path() / "property";
        if (file.filename() != "train.rec" || !std::filesystem::is_regular_file(path)) return;
        const FileSource property(path);
        const auto bytes = property.bytes(0, std::min<std::uint64_t>(property.size(), 20));
        const char* text = reinterpret_cast<const char*>(bytes.data());
        std::int64_t said = -1;
        const auto [end, error] = std::from_chars(text, text + bytes.size(), said);
        if (error != std::errc() || said != identities_)
            notes_.push_back(
                concat(path.string(), " says ", std::string(text, end), " identities, the images have ", identities_));
    }

    std::shared_ptr<const Source> source_;
    RecordReader reader_;
    DecodeLimits decode_;
    std::vector<RecordEntry> entries_;
    std::int64_t identities_ = 0;
    float identities_from_ = std::numeric_limits<float>::infinity();  ///< A of record 0
    std::string labels_from_;
    std::vector<std::string> notes_;
};

}  // namespace bf
