#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/dataset.hpp"
#include "bf/data/decode.hpp"

namespace bf {

/// Images in files, with labels. Paths are kept; pixels are read on demand, and decoded images stay in memory up to a
/// byte limit. Link bf::images.
class FileDataset : public Dataset {
  public:
    struct Entry {
        std::filesystem::path path;
        std::int64_t label;
    };

    /// Labels are renumbered 0..K-1 in their order.
    FileDataset(std::vector<Entry> entries, std::size_t cache_bytes = 0)
        : entries_(std::move(entries)), cache_(entries_.size()), cache_left_(cache_bytes) {
        std::map<std::int64_t, std::int64_t> dense;
        for (const Entry& e : entries_) dense[e.label] = 0;
        for (auto& [label, number] : dense) number = identities_++;
        for (Entry& e : entries_) e.label = dense[e.label];
    }
    std::int64_t size() const override { return static_cast<std::int64_t>(entries_.size()); }
    std::int64_t identities() const override { return identities_; }
    std::int64_t label(std::int64_t i) const override { return entries_[static_cast<std::size_t>(i)].label; }
    std::string name(std::int64_t i) const override { return entries_[static_cast<std::size_t>(i)].path.string(); }
    Image image(std::int64_t i) const override {
        Image image;
        load(i, 0, image);
        return image;
    }
    void load(std::int64_t i, int wanted_side, Image& into) const override {
        BF_CHECK(i >= 0 && i < size(), "FileDataset", "index; got ", i, ", want 0..", size() - 1);
        const auto at = static_cast<std::size_t>(i);
        std::shared_ptr<const Kept> kept;
        {
            const std::lock_guard lock(mutex_);
            kept = cache_[at];
        }
        if (kept && kept->wanted_side == wanted_side) {
            into = kept->image;
            return;
        }
        read_image(entries_[at].path, into, {.wanted_side = wanted_side});
        if (kept) return;
        const std::lock_guard lock(mutex_);
        if (into.pixels.size() > cache_left_ || cache_[at]) return;
        cache_left_ -= into.pixels.size();
        cache_[at] = std::make_shared<const Kept>(Kept{into, wanted_side});
    }

  private:
    /// A decoded image, and for which size it was decoded.
    struct Kept {
        Image image;
        int wanted_side;
    };
    std::vector<Entry> entries_;
    std::int64_t identities_ = 0;
    mutable std::mutex mutex_;
    mutable std::vector<std::shared_ptr<const Kept>> cache_;
    mutable std::size_t cache_left_;
};

/// True for the file endings that decode_image() reads.
inline bool has_image_ending(const std::filesystem::path& path) {
    std::string ending = path.extension().string();
    for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return ending == ".jpg" || ending == ".jpeg" || ending == ".png" || ending == ".pgm" || ending == ".ppm";
}

/// Which of a list's or a folder's images are taken.
struct ListFilter {
    std::vector<int> only_folds{}, exclude_folds{};
    std::int64_t min_images = 1;  ///< identities with fewer images are left out
    int identity_folds = 0;       ///< of a folder: identity k of all, in the order of names, is in fold 1 + k mod this

    bool takes(long long fold) const {
        const auto is = [fold](const std::vector<int>& folds) {
            return std::find(folds.begin(), folds.end(), static_cast<int>(fold)) != folds.end();
        };
        return (only_folds.empty() || is(only_folds)) && !is(exclude_folds);
    }
};

/// One sub-folder an identity, in sorted order; files of other kinds are left out.
inline std::vector<FileDataset::Entry> list_folder(const std::filesystem::path& root, const ListFilter& filter = {}) {
    namespace fs = std::filesystem;
    BF_CHECK_DATA(
        filter.identity_folds > 0 || (filter.only_folds.empty() && filter.exclude_folds.empty()), root.string(),
        "folds are chosen, but a folder has none; hint: identity_folds says how many to deal identities out to");
    BF_CHECK_DATA(fs::is_directory(root), root.string(),
                  "is not a folder; hint: data.root names a folder with one "
                  "sub-folder an identity");
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(root))
        if (entry.is_directory()) folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end());
    std::vector<FileDataset::Entry> entries;
    for (std::size_t k = 0; k < folders.size(); ++k) {
        if (filter.identity_folds > 0 && !filter.takes(1 + static_cast<long long>(k) % filter.identity_folds)) continue;
        std::vector<fs::path> files;
        for (const auto& file : fs::directory_iterator(folders[k]))
            if (file.is_regular_file() && has_image_ending(file.path())) files.push_back(file.path());
        std::sort(files.begin(), files.end());
        if (static_cast<std::int64_t>(files.size()) < filter.min_images) continue;
        for (auto& f : files) entries.push_back({std::move(f), static_cast<std::int64_t>(k)});
    }
    BF_CHECK_DATA(!entries.empty(), root.string(), "has no identity with at least ", filter.min_images, " images",
                  filter.identity_folds > 0 ? " in the folds chosen" : "",
                  "; hint: want ROOT/IDENTITY/IMAGE.jpg (or .png, .pgm, .ppm)");
    return entries;
}

/// A text list `path<TAB>label[<TAB>fold]` with an optional header line; paths are relative to root.
inline std::vector<FileDataset::Entry> read_list(const std::filesystem::path& list, const std::filesystem::path& root,
                                                 const ListFilter& filter = {}) {
    std::ifstream in(list);
    BF_CHECK_DATA(in, list.string(), "cannot be read; hint: does the file exist?");
    std::vector<FileDataset::Entry> entries;
    std::map<std::int64_t, std::int64_t> count;
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) continue;
        const std::size_t tab = line.find('\t'), next = tab == std::string::npos ? tab : line.find('\t', tab + 1);
        long long label = 0, fold = 0;
        char rest = 0;
        const bool good = tab != std::string::npos &&
                          std::sscanf(line.c_str() + tab + 1, "%lld%c", &label, &rest) >= 1 &&
                          (rest == 0 || rest == '\t') &&
                          (next == std::string::npos || std::sscanf(line.c_str() + next + 1, "%lld", &fold) == 1);
        if (!good && number == 1) continue;  // the header
        BF_CHECK_DATA(good, concat(list.string(), ":", number), "not `path<TAB>label[<TAB>fold]`; got ",
                      line.substr(0, 120));
        BF_CHECK_DATA(next != std::string::npos || (filter.only_folds.empty() && filter.exclude_folds.empty()),
                      concat(list.string(), ":", number), "has no fold, but folds are chosen; got ",
                      line.substr(0, 120), "; hint: a third column, or neither only_folds nor exclude_folds");
        if (!filter.takes(fold)) continue;
        entries.push_back({root / line.substr(0, tab), label});
        ++count[label];
    }
    std::erase_if(entries, [&](const auto& e) { return count[e.label] < filter.min_images; });
    BF_CHECK_DATA(!entries.empty(), list.string(), "names no image that the filter keeps");
    BF_CHECK_DATA(std::filesystem::exists(entries.front().path), list.string(),
                  "first image is missing: ", entries.front().path.string(), "; hint: paths are relative to data.root");
    return entries;
}

}  // namespace bf
