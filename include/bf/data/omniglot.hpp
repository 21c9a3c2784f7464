#pragma once
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/dataset.hpp"
#include "bf/data/file_dataset.hpp"

namespace bf {

/// Omniglot: ROOT/ALPHABET/CHARACTER, each character a class, either a folder with one drawing a file (as published) or
/// one image, the strip of its drawings side by side, each as wide as the strip is high. Alphabets and characters in
/// sorted order. Link bf::images.
class OmniglotDrawings : public Dataset {
  public:
    explicit OmniglotDrawings(const std::filesystem::path& root) {
        namespace fs = std::filesystem;
        BF_CHECK_DATA(fs::is_directory(root), root.string(), "is not a folder; hint: want ROOT/ALPHABET/CHARACTER");
        const auto sorted = [](const fs::path& folder) {
            std::vector<fs::path> paths;
            for (const auto& e : fs::directory_iterator(folder)) paths.push_back(e.path());
            std::sort(paths.begin(), paths.end());
            return paths;
        };
        for (const fs::path& alphabet : sorted(root)) {
            if (!fs::is_directory(alphabet)) continue;
            for (const fs::path& character : sorted(alphabet)) {
                const std::size_t before = drawings_.size();
                if (fs::is_directory(character)) {
                    for (const fs::path& file : sorted(character))
                        if (has_image_ending(file)) drawings_.push_back({file, -1, identities_});
                } else if (has_image_ending(character)) {
                    const Image strip = read_image(character);
                    BF_CHECK_DATA(strip.height > 0 && strip.width % strip.height == 0, character.string(),
                                  "is not a strip of square drawings; got ", strip.width, " x ", strip.height,
                                  "; hint: want ROOT/ALPHABET/CHARACTER");
                    for (int i = 0; i < strip.width / strip.height; ++i)
                        drawings_.push_back({character, i, identities_});
                }
                if (drawings_.size() > before) ++identities_;
            }
        }
        BF_CHECK_DATA(!drawings_.empty(), root.string(), "holds no drawing; hint: want ROOT/ALPHABET/CHARACTER");
    }
    std::int64_t size() const override { return static_cast<std::int64_t>(drawings_.size()); }
    std::int64_t identities() const override { return identities_; }
    std::int64_t label(std::int64_t i) const override { return at(i).label; }
    /// The file, and the place in its strip: Latin/character05.pgm#3.
    std::string name(std::int64_t i) const override {
        const Drawing& d = at(i);
        return d.place < 0 ? d.path.string() : d.path.string() + "#" + std::to_string(d.place);
    }
    Image image(std::int64_t i) const override {
        const Drawing& d = at(i);
        Image whole = read_image(d.path);
        if (d.place < 0) return whole;
        const int side = whole.height, left = d.place * side;
        BF_CHECK_DATA(left + side <= whole.width, d.path.string(), "has shrunk since it was listed");
        Image out(side, side, whole.channels);
        for (int y = 0; y < side; ++y)
            std::memcpy(out.at(0, y), whole.at(left, y), static_cast<std::size_t>(side * whole.channels));
        return out;
    }

  private:
    struct Drawing {
        std::filesystem::path path;
        int place;  ///< in a strip; -1: the file is the drawing
        std::int64_t label;
    };
    const Drawing& at(std::int64_t i) const {
        BF_CHECK(i >= 0 && i < size(), "OmniglotDrawings", "index; got ", i, ", want 0..", size() - 1);
        return drawings_[static_cast<std::size_t>(i)];
    }
    std::vector<Drawing> drawings_;
    std::int64_t identities_ = 0;
};

}  // namespace bf
