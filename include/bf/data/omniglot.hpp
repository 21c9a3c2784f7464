#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "bf/data/dataset.hpp"
#include "bf/data/decode.hpp"
#include "bf/data/file_dataset.hpp"

namespace bf {

struct OmniglotOptions {
    std::vector<std::string> only_alphabets{}, exclude_alphabets{};  ///< by folder name; none: all
    std::size_t max_bytes = std::size_t{1} << 30;                    ///< of the drawings, which stay in memory
};

/// Drawings of characters for metric learning (Lake et al., "Human-level concept learning through probabilistic program
/// induction", Science 2015): a class is a character, and alphabets are what training and test are split by. Two
/// layouts: ALPHABET/CHARACTER.pgm, a strip of square drawings side by side, or ALPHABET/CHARACTER/DRAWING.png (.pgm,
/// .jpg). The drawings are read at once, one byte a pixel. Link bf::images.
class Omniglot : public Dataset {
  public:
    /// Throws a data Error for a damaged image, a strip that is no row of squares, and a folder without any.
    explicit Omniglot(const std::filesystem::path& root, const OmniglotOptions& options = {}) : options_(options) {
        const std::string where = root.string();
        const std::vector<std::filesystem::path> folders = listed(root, true);
        for (const auto* names : {&options.only_alphabets, &options.exclude_alphabets})
            for (const std::string& name : *names)
                BF_CHECK_DATA(
                    std::any_of(folders.begin(), folders.end(), [&](const auto& f) { return f.filename() == name; }),
                    where, "has no alphabet ", name, "; hint: alphabets are its folders");
        for (const auto& alphabet : folders) {
            const auto is = [&](const auto& names) {
                return std::find(names.begin(), names.end(), alphabet.filename().string()) != names.end();
            };
            if ((!options.only_alphabets.empty() && !is(options.only_alphabets)) || is(options.exclude_alphabets))
                continue;
            for (const auto& strip : listed(alphabet, false)) add_character({strip}, alphabet);
            for (const auto& character : listed(alphabet, true))
                if (const auto drawings = listed(character, false); !drawings.empty())
                    add_character(drawings, alphabet);
        }
        BF_CHECK_DATA(!drawings_.empty(), where,
                      "has no drawing; hint: want ALPHABET/CHARACTER.pgm (strips) or ALPHABET/CHARACTER/DRAWING.png");
    }
    std::int64_t size() const override { return static_cast<std::int64_t>(drawings_.size()); }
    std::int64_t identities() const override { return static_cast<std::int64_t>(alphabet_of_.size()); }
    std::int64_t label(std::int64_t i) const override { return at(i).character; }
    std::string name(std::int64_t i) const override {
        const Drawing& d = at(i);
        return d.place < 0 ? d.file : d.file + "#" + std::to_string(d.place);
    }
    Image image(std::int64_t i) const override {
        const Drawing& d = at(i);
        Image image(d.side, d.side);
        const std::uint8_t* from = ink_.data() + d.offset;
        for (std::size_t k = 0; k < image.pixels.size(); ++k) image.pixels[k] = from[k / 3];
        return image;
    }
    /// Names of the alphabets taken, and which of them a character (a label) belongs to.
    const std::vector<std::string>& alphabets() const { return alphabets_; }
    std::int64_t alphabet(std::int64_t character) const { return alphabet_of_[static_cast<std::size_t>(character)]; }

  private:
    struct Drawing {
        std::string file;
        int place;  ///< in its strip; -1: the file is the drawing
        int side;
        std::size_t offset;  ///< in ink_
        std::int64_t character;
    };
    const Drawing& at(std::int64_t i) const {
        BF_CHECK(i >= 0 && i < size(), "Omniglot", "index; got ", i, ", want 0..", size() - 1);
        return drawings_[static_cast<std::size_t>(i)];
    }
    /// Folders, or images, in a folder, sorted.
    static std::vector<std::filesystem::path> listed(const std::filesystem::path& folder, bool folders) {
        BF_CHECK_DATA(std::filesystem::is_directory(folder), folder.string(),
                      "is not a folder; hint: data.root names a folder with one sub-folder an alphabet");
        std::vector<std::filesystem::path> found;
        for (const auto& entry : std::filesystem::directory_iterator(folder))
            if (folders ? entry.is_directory() : entry.is_regular_file() && has_image_ending(entry.path()))
                found.push_back(entry.path());
        std::sort(found.begin(), found.end());
        return found;
    }
    void add_character(const std::vector<std::filesystem::path>& files, const std::filesystem::path& alphabet) {
        const std::string name = alphabet.filename().string();
        if (alphabets_.empty() || alphabets_.back() != name) alphabets_.push_back(name);
        for (const auto& file : files) {
            const Image all = read_image(file, {.max_side = 1 << 16, .max_file = options_.max_bytes});
            BF_CHECK_DATA(all.width % all.height == 0, file.string(), "is no row of square drawings; got ", all.width,
                          " x ", all.height);
            const int count = all.width / all.height, side = all.height;
            BF_CHECK_DATA(ink_.size() + all.pixels.size() / 3 <= options_.max_bytes, file.string(), "is beyond the ",
                          options_.max_bytes, " bytes that drawings may take");
            for (int k = 0; k < count; ++k) {
                drawings_.push_back({file.string(), count > 1 ? k : -1, side, ink_.size(), identities()});
                for (int y = 0; y < side; ++y)
                    for (int x = 0; x < side; ++x) ink_.push_back(all.at(k * side + x, y)[0]);
            }
        }
        alphabet_of_.push_back(static_cast<std::int64_t>(alphabets_.size()) - 1);
    }

    OmniglotOptions options_;
    std::vector<Drawing> drawings_;
    std::vector<std::uint8_t> ink_;
    std::vector<std::string> alphabets_;
    std::vector<std::int64_t> alphabet_of_;
};

}  // namespace bf
