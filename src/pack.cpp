// bf pack: image files to a record file (.rec, .idx, .lst, property), or pairs of them to a verification .bin.
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>

#include "bf/base/random.hpp"
#include "bf/core/parallel.hpp"
#include "bf/data/encode.hpp"
#include "bf/data/file_dataset.hpp"
#include "bf/data/pairs.hpp"
#include "bf/data/transform.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/lines.hpp"
#include "bf/io/record_index.hpp"
#include "commands.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;
using Entries = std::vector<FileDataset::Entry>;

Bytes file_bytes(const fs::path& path) {
    const FileSource source(path);
    const std::size_t most = DecodeLimits{}.max_file;
    BF_CHECK_DATA(source.size() <= most, path.string(), "file size; got ", source.size(), " bytes, want at most ",
                  most);
    return source.bytes(0, source.size());
}

/// im2rec's list: `index<TAB>label[<TAB>more labels]<TAB>path`.
Entries read_im2rec_list(const fs::path& list, const fs::path& root) {
    const FileSource source(list);
    LineReader in(source);
    Entries entries;
    for (std::string_view line; in.next_filled(line);) {
        const std::size_t first = line.find('\t'), last = line.rfind('\t');
        float label = -1;
        if (first < last && last != std::string::npos)
            std::from_chars(line.data() + first + 1, line.data() + last, label);
        const auto value = class_of(label);
        BF_CHECK_DATA(value && last + 1 < line.size(), in.where(), "not `index<TAB>label<TAB>path`; got ",
                      line.substr(0, 120));
        entries.push_back({root / line.substr(last + 1), *value});
    }
    BF_CHECK_DATA(!entries.empty(), list.string(), "names no image");
    return entries;
}

/// Whether an image is stored as it is. size 0: all are.
bool fits(const Image& image, int size) { return size == 0 || (image.width == size && image.height == size); }

/// What the look at all images before packing tells; sizes and formats are those that will be stored.
struct Checked {
    std::vector<std::string> wrong;  ///< a line for each image: empty, or what is wrong with it
    std::size_t bad = 0, not_jpeg = 0, resized = 0;
    int width = 0, height = 0;  ///< 0: they differ
};

template <class PathOf>
Checked check_images(std::size_t count, int size, PathOf&& path_of) {
    Checked all;
    all.wrong.resize(count);
    WorkProgress progress("images checked", count);
    constexpr std::size_t block = 512;
    struct Facts {
        int width = 0, height = 0;
        bool jpeg = true, resized = false;
    };
    bool same = true;
    for (std::size_t from = 0; from < count; from += block) {
        const std::size_t n = std::min(block, count - from);
        std::vector<Facts> facts(n);
        parallel_for(static_cast<std::int64_t>(n), 4, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) try {
                    const fs::path& path = path_of(from + i);
                    const Bytes bytes = file_bytes(path);
                    const Image image = decode_image(bytes, path.string());
                    if (fits(image, size))
                        facts[i] = {image.width, image.height, bytes[0] == std::byte{0xff}};
                    else
                        facts[i] = {size, size, true, true};
                } catch (const Error& e) {
                    if (e.code() != ErrorCode::data) throw;
                    all.wrong[from + i] = e.what();
                }
        });
        for (std::size_t i = 0; i < n; ++i) {
            if (!all.wrong[from + i].empty()) {
                ++all.bad;
                continue;
            }
            all.not_jpeg += !facts[i].jpeg;
            all.resized += facts[i].resized;
            if (all.width == 0) all.width = facts[i].width, all.height = facts[i].height;
            same = same && facts[i].width == all.width && facts[i].height == all.height;
        }
        progress.show(from + n);
    }
    if (!same) all.width = all.height = 0;
    return all;
}

/// Lists damaged images on stderr and throws if there are more than allowed.
void judge(const Checked& checked, bool exclude, double share) {
    if (checked.bad == 0) return;
    std::size_t shown = 0;
    for (const std::string& line : checked.wrong)
        if (!line.empty() && ++shown <= 20) std::fprintf(stderr, "damaged: %s\n", line.c_str());
    if (shown > 20) std::fprintf(stderr, "... and %zu more\n", shown - 20);
    BF_CHECK_DATA(exclude, "pack", checked.bad, " of ", checked.wrong.size(),
                  " images are damaged; nothing is written; hint: --exclude-bad leaves them out");
    BF_CHECK_DATA(static_cast<double>(checked.bad) <= share * static_cast<double>(checked.wrong.size()), "pack",
                  checked.bad, " of ", checked.wrong.size(), " images are damaged, more than the share ", share,
                  " allows; nothing is written; hint: --max-bad-share");
}

/// A file written in large pieces.
class PackFile {
  public:
    explicit PackFile(const fs::path& path) : file_(path) {}
    /// Appends what `fill(buffer)` adds to the buffer; returns the offset of its first byte.
    template <class Fill>
    std::uint64_t append(Fill&& fill) {
        const std::uint64_t offset = written_ + buffer_.size();
        fill(buffer_);
        if (buffer_.size() >= (std::size_t{1} << 20)) flush();
        return offset;
    }
    void text(std::string_view words) {
        append([&](Bytes& out) {
            const auto bytes = std::as_bytes(std::span(words));
            out.insert(out.end(), bytes.begin(), bytes.end());
        });
    }
    std::uint64_t commit() {
        flush();
        file_.commit();
        return written_;
    }

  private:
    void flush() {
        file_.write(buffer_.data(), buffer_.size());
        written_ += buffer_.size();
        buffer_.clear();
    }
    AtomicFile file_;
    Bytes buffer_;
    std::uint64_t written_ = 0;
};

/// The bytes to store of a file: its own, or with a size that its image does not have a JPEG of the image resized.
Bytes stored_bytes(const fs::path& path, const PackArguments& a) {
    Bytes bytes = file_bytes(path);
    if (a.size == 0) return bytes;
    const Image image = decode_image(bytes, path.string());
    if (fits(image, a.size)) return bytes;
    return encode_jpeg(to_square(image, a.size), a.quality);
}

/// Calls write(i, bytes) for the files 0..count-1 in order; they are read ahead by threads.
template <class PathOf, class Write>
void copy_files(std::size_t count, const PackArguments& a, PathOf&& path_of, Write&& write) {
    WorkProgress progress("images packed", count);
    constexpr std::size_t block = 64;
    for (std::size_t from = 0; from < count; from += block) {
        std::vector<Bytes> files(std::min(block, count - from));
        parallel_for(static_cast<std::int64_t>(files.size()), 4, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
                files[i] = stored_bytes(path_of(from + i), a);
        });
        for (std::size_t i = 0; i < files.size(); ++i) write(from + i, files[i]);
        progress.show(from + files.size());
    }
}

void refuse_existing(const PackArguments& a, const std::vector<fs::path>& outputs) {
    const fs::path folder = fs::path(a.out).parent_path();
    BF_CHECK(folder.empty() || fs::is_directory(folder), "pack", "--out ", a.out, ": no folder ", folder.string(),
             "; hint: mkdir -p ", folder.string());
    for (const fs::path& path : outputs)
        BF_CHECK(a.force || !fs::exists(path), "pack", path.string(),
                 " is there already; hint: another --out, or --force");
}

int pack_records(const PackArguments& a) {
    const fs::path prefix = a.out, property = prefix.parent_path() / "property";
    const auto named = [&prefix](const char* ending) { return fs::path(prefix.string() + ending); };
    refuse_existing(a, {named(".rec"), named(".idx"), named(".lst"), property});
    const fs::path root = !a.images.empty() ? fs::path(a.images) : fs::path(a.list).parent_path();
    Entries entries = a.list.empty()                           ? list_folder(root)
                      : fs::path(a.list).extension() == ".lst" ? read_im2rec_list(a.list, root)
                                                               : read_list(a.list, root);
    const Checked checked =
        check_images(entries.size(), a.size, [&](std::size_t i) -> const fs::path& { return entries[i].path; });
    judge(checked, a.exclude_bad, a.max_bad_share);
    Entries kept;
    for (std::size_t i = 0; i < entries.size(); ++i)
        if (checked.wrong[i].empty()) kept.push_back(std::move(entries[i]));
    BF_CHECK_DATA(!kept.empty(), "pack", "no image is left");
    BF_CHECK_DATA(kept.size() < 0xfffffff0u, "pack", "too many images; got ", kept.size(), ", want less than 2^32");
    std::map<std::int64_t, std::int64_t> dense;
    for (const auto& e : kept) dense[e.label] = 0;
    std::int64_t identities = 0;
    for (auto& [label, number] : dense) number = identities++;
    for (auto& e : kept) e.label = dense[e.label];
    const bool shuffled = a.layout == "shuffled";
    if (shuffled) {
        Rng rng(a.seed, Stream::shuffle);
        for (std::size_t i = kept.size(); i > 1; --i) std::swap(kept[i - 1], kept[rng.below(i)]);
    } else {
        std::stable_sort(kept.begin(), kept.end(), [](const auto& x, const auto& y) { return x.label < y.label; });
    }

    PackFile rec(named(".rec")), idx(named(".idx")), lst(named(".lst")), facts(property);
    const auto add = [&](std::uint32_t key, std::span<const std::byte> header, std::span<const std::byte> image) {
        Bytes payload(header.begin(), header.end());
        payload.insert(payload.end(), image.begin(), image.end());
        idx.text(index_line(key, rec.append([&](Bytes& out) { append_record(out, payload); })));
    };
    std::uint32_t key = shuffled ? 0 : 1;
    std::vector<std::uint32_t> first_keys;
    copy_files(
        kept.size(), a, [&](std::size_t i) -> const fs::path& { return kept[i].path; },
        [&](std::size_t i, const Bytes& image) {
            const auto label = kept[i].label;
            if (!shuffled && static_cast<std::size_t>(label) == first_keys.size()) first_keys.push_back(key);
            add(key, ImageRecordHeader::bytes(static_cast<float>(label), {}, key), image);
            lst.text(concat(key, '\t', label, '\t', kept[i].path.lexically_relative(root).string(), '\n'));
            ++key;
        });
    if (!shuffled) {
        const auto list = [&](std::uint32_t k, std::uint32_t from, std::uint32_t to) {
            const float labels[2] = {static_cast<float>(from), static_cast<float>(to)};
            add(k, ImageRecordHeader::bytes(0, labels, k), {});
        };
        const std::uint32_t end = key;
        list(0, end, end + static_cast<std::uint32_t>(identities));
        for (std::size_t k = 0; k < first_keys.size(); ++k)
            list(key++, first_keys[k], k + 1 < first_keys.size() ? first_keys[k + 1] : end);
    }
    facts.text(
        concat(identities, ',', checked.height ? checked.height : 112, ',', checked.width ? checked.width : 112, '\n'));
    facts.commit();
    lst.commit();
    idx.commit();
    const std::uint64_t size = rec.commit();
    if (checked.width == 0) std::fprintf(stderr, "note: the images differ in size; property says 112,112\n");
    if (checked.not_jpeg)
        std::fprintf(stderr, "note: %zu images are PNG, PGM or PPM and stored as such; MXNet reads JPEG and PNG\n",
                     checked.not_jpeg);
    std::printf("%s.rec: %zu images of %lld identities, %s layout, %llu bytes", a.out.c_str(), kept.size(),
                static_cast<long long>(identities), a.layout.c_str(), static_cast<unsigned long long>(size));
    if (checked.resized) std::printf("; %zu resized to %d x %d", checked.resized, a.size, a.size);
    std::printf("%s\n", checked.bad ? concat("; ", checked.bad, " damaged left out").c_str() : "");
    return 0;
}

/// A pickled tuple (list of 2 N encoded images, list of N booleans). Protocol 2 with the images as byte strings of
/// Python 2 is what the published sets are; 4 has Python 3's bytes.
int pack_pairs(const PackArguments& a) {
    refuse_existing(a, {a.out});
    const VerificationPairs pairs =
        a.kind == "lfw" ? read_lfw_pairs(a.pairs, a.images) : read_pair_list(a.pairs, a.images);
    const auto& paths = pairs.paths;
    const Checked checked =
        check_images(paths.size(), a.size, [&](std::size_t i) -> const fs::path& { return paths[i]; });
    judge(checked, false, 0);  // a protocol with pairs left out would be another one
    PackFile out(a.out);
    const bool old = a.protocol == 2;
    auto memoize = [&, n = 0]() mutable { out.text(old ? std::string{'q', static_cast<char>(n++)} : "\x94"); };
    out.text(std::string{'\x80', static_cast<char>(a.protocol), ']'});
    memoize();
    out.text("(");
    copy_files(
        2 * pairs.pairs.size(), a,
        [&](std::size_t i) -> const fs::path& {
            const auto& [x, y] = pairs.pairs[i / 2];
            return paths[static_cast<std::size_t>(i % 2 ? y : x)];
        },
        [&](std::size_t, const Bytes& image) {
            const auto length = static_cast<std::uint32_t>(image.size());
            const bool is_short = length < 256;
            std::string head(1, old ? (is_short ? 'U' : 'T') : (is_short ? 'C' : 'B'));
            for (int byte = 0; byte < (is_short ? 1 : 4); ++byte) head += static_cast<char>(length >> 8 * byte);
            out.text(head);
            out.append([&](Bytes& buffer) { buffer.insert(buffer.end(), image.begin(), image.end()); });
        });
    out.text("e]");
    memoize();
    out.text("(");
    for (const char same : pairs.same) out.text(same ? "\x88" : "\x89");
    out.text("e\x86");
    memoize();
    out.text(".");
    const std::uint64_t size = out.commit();
    std::printf("%s: %zu pairs (%lld of one identity) of %zu images, %llu bytes", a.out.c_str(), pairs.pairs.size(),
                static_cast<long long>(std::count(pairs.same.begin(), pairs.same.end(), 1)), paths.size(),
                static_cast<unsigned long long>(size));
    std::printf("%s\n", checked.resized ? concat("; ", checked.resized, " resized").c_str() : "");
    return 0;
}

}  // namespace

int run_pack(const PackArguments& a) {
    BF_CHECK(a.pairs.empty() || a.list.empty(), "pack", "both --list and --pairs; hint: a record file or a .bin");
    BF_CHECK(a.pairs.empty() || !a.images.empty(), "pack",
             "--pairs: want --images, the folder its paths are relative to");
    if (a.size > 0) check_can_encode("a.jpg");
    BF_CHECK(!a.images.empty() || !a.list.empty(), "pack",
             "want --images FOLDER (one sub-folder an identity), or --list FILE");
    return a.pairs.empty() ? pack_records(a) : pack_pairs(a);
}

}  // namespace bf::program
