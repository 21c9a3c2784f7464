// bf index: reads every record of a .rec, says which are damaged, makes a missing .idx and the checksum file.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <numeric>

#include "bf/core/parallel.hpp"
#include "bf/data/decode.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "bf/io/record_index.hpp"
#include "commands.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

struct Fault {
    std::uint64_t offset = 0;
    std::int64_t key = -1;  ///< -1: bytes of no record
    std::string reason;
};
constexpr std::size_t most_faults = 100000;  ///< kept in memory; all are counted

/// What was found in a record file.
struct Findings {
    std::vector<RecordSum> sums;  ///< by key
    std::vector<Fault> faults;    ///< by offset
    std::uint64_t bad = 0, unnamed_bytes = 0;
    bool had_index = true;

    void add(Fault fault) {
        ++bad;
        if (faults.size() < most_faults) faults.push_back(std::move(fault));
    }
};

/// Reads one record and fills in its checksum, label and kind, and where it ends; returns what is wrong with it, or
/// nothing.
std::string examine(const RecordReader& reader, RecordSum& sum, const RecordSum* next, bool decode, bool had_index,
                    std::uint64_t& end) {
    const std::uint64_t limit = next ? next->offset : reader.source().size();
    sum.kind = RecordKind::damaged;
    sum.label = std::numeric_limits<float>::quiet_NaN();  // not known
    try {
        if (next && next->offset == sum.offset) return concat("key ", next->key, " has the same offset");
        const RecordExtent extent = reader.extent(sum.offset);
        end = extent.end;
        const std::vector<std::byte> payload = reader.read(sum.offset);
        if (extent.end > limit) return concat("reaches to byte ", extent.end, ", into the record at byte ", limit);
        if (had_index && extent.end < limit && !reader.begins_part(extent.end))
            return concat("ends at byte ", extent.end, ", and up to byte ", limit, " there is no record");
        if (!had_index && extent.end - sum.offset < payload.size() + 12)  // one part: no magic may stand in it
            for (std::size_t i = 0; i + 4 <= payload.size(); i += 4)
                if (std::memcmp(payload.data() + i, &record_magic, 4) == 0)
                    return concat("swallows what begins at byte ", sum.offset + 8 + i);
        const auto header = ImageRecordHeader::parse(payload, payload.size(), "header");
        const auto image = std::span(payload).subspan(static_cast<std::size_t>(header.size));
        if (!image.empty()) {
            if (!class_of(header.identity()))
                return concat("label; got ", header.identity(), ", want a whole number in 0..2^24");
            sum.label = header.identity();
            if (decode) decode_image(image, "image");
        }
        sum.crc = crc32c(payload.data(), payload.size());
        sum.kind = image.empty() ? RecordKind::list : RecordKind::image;
        return "";
    } catch (const Error& e) {
        if (e.code() != ErrorCode::data) throw;
        return e.what();
    }
}

Findings examine_all(const Source& records, const fs::path& index, bool decode) {
    const RecordReader reader(records);
    Findings f;
    f.had_index = fs::exists(index);
    std::vector<RecordEntry> entries;
    if (f.had_index) {
        entries = read_record_index(FileSource(index));
    } else {
        WorkProgress progress("bytes scanned (no .idx)", records.size());
        entries = scan_records(
            reader,
            [&f](const ScannedRecord& r) {
                f.add({r.offset, -1, concat(r.damage, ", up to byte ", r.end)});
            },
            [&progress](std::uint64_t at) { progress.show(at); });
    }
    f.sums.reserve(entries.size());
    for (const RecordEntry& e : entries) f.sums.push_back({e.offset, e.key, 0, 0, RecordKind::image});
    std::vector<RecordEntry>().swap(entries);
    std::vector<std::uint32_t> order(f.sums.size());  // of the file: it is read from front to end
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&f](std::uint32_t a, std::uint32_t b) { return f.sums[a].offset < f.sums[b].offset; });

    WorkProgress progress("records read", order.size());
    constexpr std::size_t block = 2048;
    for (std::size_t from = 0; from < order.size(); from += block) {
        const std::size_t count = std::min(block, order.size() - from);
        std::vector<std::string> wrong(count);
        std::vector<std::uint64_t> ends(count);
        const auto next_of = [&](std::size_t i) {
            return from + i + 1 < order.size() ? &f.sums[order[from + i + 1]] : nullptr;
        };
        parallel_for(static_cast<std::int64_t>(count), 16, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
                wrong[i] = examine(reader, f.sums[order[from + i]], next_of(i), decode, f.had_index, ends[i]);
        });
        for (std::size_t i = 0; i < count; ++i) {
            const RecordSum& sum = f.sums[order[from + i]];
            if (!wrong[i].empty())
                f.add({sum.offset, sum.key, wrong[i]});
            else if (f.had_index)  // what follows a sound record up to the next that the index names
                f.unnamed_bytes += (next_of(i) ? next_of(i)->offset : records.size()) - ends[i];
        }
        progress.show(from + count);
    }
    if (f.had_index && !order.empty()) f.unnamed_bytes += f.sums[order[0]].offset;
    std::stable_sort(f.faults.begin(), f.faults.end(),
                     [](const Fault& a, const Fault& b) { return a.offset < b.offset; });
    return f;
}

/// Compares with the checksum file: records that changed, went or came since it was made count as damaged.
void compare_sums(const Source& sums, std::uint64_t record_file_size, Findings& f) {
    std::vector<Fault> changed;
    std::uint64_t more = 0;
    const auto add = [&](const RecordSum& s, const char* reason) {
        if (changed.size() < most_faults)
            changed.push_back({s.offset, s.key, reason});
        else
            ++more;
    };
    std::size_t i = 0;
    read_record_sums(sums, record_file_size, [&](const RecordSum& s) {
        for (; i < f.sums.size() && f.sums[i].key < s.key; ++i) add(f.sums[i], "not in the checksum file");
        if (i == f.sums.size() || f.sums[i].key != s.key) return add(s, "in the checksum file only");
        const RecordSum& now = f.sums[i++];
        if (now.kind == RecordKind::damaged || s.kind == RecordKind::damaged) return;  // told already, or known
        if (now.crc != s.crc || now.offset != s.offset) add(now, "changed since the checksum file was made");
    });
    for (; i < f.sums.size(); ++i) add(f.sums[i], "not in the checksum file");
    f.bad += more;
    for (Fault& c : changed) f.add(std::move(c));
}

std::string to_json(const std::string& file, const Findings& f, std::uint64_t images, std::size_t identities) {
    std::string out = concat("{\"kind\": \"index\", \"file\": ", json_quote(file), ", \"records\": ", f.sums.size(),
                             ", \"images\": ", images, ", \"identities\": ", identities, ", \"damaged\": ", f.bad,
                             ", \"unnamed_bytes\": ", f.unnamed_bytes,
                             ", \"had_index\": ", f.had_index ? "true" : "false", ", \"faults\": [");
    for (const Fault& fault : f.faults)
        out += concat(&fault == f.faults.data() ? "" : ", ",
                      "{\"key\": ", fault.key < 0 ? "null" : std::to_string(fault.key), ", \"byte\": ", fault.offset,
                      ", \"reason\": ", json_quote(fault.reason), "}");
    return out + "]}";
}

}  // namespace

int run_index(const IndexArguments& a) {
    fs::path file = a.records;
    if (fs::is_directory(file)) file /= "train.rec";
    const FileSource records(file);
    const fs::path index = a.index.empty() ? fs::path(file).replace_extension(".idx") : fs::path(a.index);
    BF_CHECK_DATA(a.index.empty() || fs::exists(index), a.index, "cannot be read; hint: does the file exist?");
    const fs::path sums_file = fs::path(file).replace_extension(".rec.sum");
    BF_CHECK_DATA(!a.check || fs::exists(sums_file), sums_file.string(),
                  "does not exist; hint: bf index FILE.rec --write makes it");
    Findings f = examine_all(records, index, a.decode);
    BF_CHECK_DATA(!f.sums.empty(), file.string(), "holds no record; got ", records.size(),
                  " bytes; hint: is it a .rec file?");
    std::string compared;
    if (a.check || (!a.write && fs::exists(sums_file))) try {
            compare_sums(FileSource(sums_file), records.size(), f);
            compared = ", checksums compared";
        } catch (const Error& e) {  // the damage found above is still worth telling
            if (a.check) throw;
            std::fprintf(stderr, "bf: note: checksums are not compared: %s\n", e.what());
        }

    std::uint64_t images = 0;
    std::vector<bool> seen((std::size_t{1} << 24) + 1);
    for (const RecordSum& s : f.sums)
        if (s.kind == RecordKind::image) {
            ++images;
            seen[*class_of(s.label)] = true;
        }
    const auto identities = static_cast<std::size_t>(std::count(seen.begin(), seen.end(), true));
    if (a.json) {
        std::printf("%s\n", to_json(file.string(), f, images, identities).c_str());
    } else {
        constexpr std::size_t most = 50;
        for (std::size_t i = 0; i < std::min(most, f.faults.size()); ++i)
            std::printf("damaged: %s, byte %llu: %s\n",
                        f.faults[i].key < 0 ? "no record" : concat("key ", f.faults[i].key).c_str(),
                        static_cast<unsigned long long>(f.faults[i].offset), f.faults[i].reason.c_str());
        if (f.faults.size() > most) std::printf("... --json lists %zu of them\n", f.faults.size());
        if (f.unnamed_bytes)
            std::printf("%llu bytes lie outside the records that %s names\n",
                        static_cast<unsigned long long>(f.unnamed_bytes), index.string().c_str());
        std::printf("%s: %zu records, %llu images of %zu identities, %s, %llu damaged%s\n", file.string().c_str(),
                    f.sums.size(), static_cast<unsigned long long>(images), identities,
                    a.decode ? "each decoded" : "not decoded (--decode)", static_cast<unsigned long long>(f.bad),
                    compared.c_str());
    }
    std::fflush(stdout);  // before the error on stderr
    const double share = static_cast<double>(f.bad) / static_cast<double>(std::max<std::size_t>(1, f.sums.size()));
    BF_CHECK_DATA(share <= a.max_bad_share, file.string(), f.bad, " damaged of ", f.sums.size(),
                  " records, more than the share ", a.max_bad_share, " allows",
                  a.write ? "; nothing is written; hint: --max-bad-share" : "");
    if (!a.write) return 0;
    if (!f.had_index) {
        AtomicFile out(index);
        std::string text;
        for (const RecordSum& s : f.sums) {
            text += index_line(s.key, s.offset);
            if (text.size() < (1 << 20)) continue;
            out.write(text);
            text.clear();
        }
        out.write(text);
        out.commit();
        std::fprintf(stderr, "wrote %s\n", index.string().c_str());
    }
    AtomicFile out(sums_file);
    RecordSumWriter writer([&out](std::string_view part) { out.write(part); }, records.size(), f.sums.size());
    for (const RecordSum& s : f.sums) writer.add(s);
    writer.finish();
    out.commit();
    std::fprintf(stderr, "wrote %s\n", sums_file.string().c_str());
    return 0;
}

}  // namespace bf::program
