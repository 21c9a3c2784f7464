#pragma once
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// Which images of a list are compared, and in which fold.
struct VerificationPairs {
    std::vector<std::filesystem::path> paths;                  ///< each image once, in order of appearance
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;  ///< places in `paths`
    std::vector<char> same;                                    ///< 1: one identity
    std::vector<int> fold;                                     ///< 1..folds
    int folds = 1;
};

namespace detail {
/// A line without content, that of a file with CRLF ends included.
inline bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; }

class PairBuilder {
  public:
    explicit PairBuilder(std::filesystem::path root) : root_(std::move(root)) {}
    void add(const std::filesystem::path& a, const std::filesystem::path& b, bool same, int fold) {
        out.pairs.emplace_back(place(a), place(b));
        out.same.push_back(same);
        out.fold.push_back(fold);
    }
    /// Every image must exist: names the first few that do not.
    VerificationPairs finish(const std::filesystem::path& list) {
        std::vector<std::string> missing;
        for (const auto& path : out.paths)
            if (!std::filesystem::exists(path)) missing.push_back(path.string());
        if (!missing.empty()) {
            std::string some;
            for (std::size_t i = 0; i < missing.size() && i < 5; ++i) some += "\n  " + missing[i];
            fail(ErrorCode::data, list.string(), missing.size(), " of ", out.paths.size(), " images are missing:", some,
                 missing.size() > 5 ? "\n  ..." : "", "\nhint: is the image folder right?");
        }
        BF_CHECK_DATA(!out.pairs.empty(), list.string(), "has no pairs");
        return std::move(out);
    }
    VerificationPairs out;

  private:
    std::int64_t place(const std::filesystem::path& path) {
        const auto [it, added] = places_.try_emplace(path.string(), static_cast<std::int64_t>(out.paths.size()));
        if (added) out.paths.push_back(root_ / path);
        return it->second;
    }
    std::filesystem::path root_;
    std::map<std::string, std::int64_t> places_;
};
}  // namespace detail

/// LFW's protocol file: header `folds<TAB>n` (or `n` alone: one fold), then a fold's n lines `name i j` (same) and n
/// lines `name1 i name2 j` (different); image NAME/NAME_%04d.jpg under root. only_fold > 0 takes that fold alone.
inline VerificationPairs read_lfw_pairs(const std::filesystem::path& list, const std::filesystem::path& root,
                                        int only_fold = 0) {
    std::ifstream in(list);
    BF_CHECK_DATA(in, list.string(), "cannot be read; hint: does the file exist?");
    std::string line;
    std::getline(in, line);
    long first = 0, second = 0;
    std::istringstream header(line);
    header >> first;
    const bool has_folds = static_cast<bool>(header >> second);
    const long folds = has_folds ? first : 1, count = has_folds ? second : first;
    BF_CHECK_DATA(folds >= 1 && folds <= 1000 && count >= 1, concat(list.string(), ":1"),
                  "not an LFW pairs header; got ", line.substr(0, 80), ", want `folds<TAB>pairs`");
    BF_CHECK(only_fold >= 0 && only_fold <= folds, "fold", "got ", only_fold, ", want 1..", folds, " (", list.string(),
             ")");
    const auto image = [](const std::string& name, int number) {
        char suffix[16];
        std::snprintf(suffix, sizeof suffix, "_%04d.jpg", number);
        return std::filesystem::path(name) / (name + suffix);
    };
    detail::PairBuilder builder(root);
    builder.out.folds = only_fold ? 1 : static_cast<int>(folds);
    for (long i = 0; i < folds * 2 * count; ++i) {
        const long number = i + 2;
        BF_CHECK_DATA(std::getline(in, line), concat(list.string(), ":", number), "file ends early; want ",
                      folds * 2 * count, " pairs");
        const bool same = i / count % 2 == 0;
        std::istringstream fields(line);
        std::string a, b;
        int n = 0, m = 0;
        fields >> a >> n;
        if (same)
            b = a;
        else
            fields >> b;
        fields >> m;
        BF_CHECK_DATA(fields && n > 0 && m > 0, concat(list.string(), ":", number), "not a pair; got ",
                      line.substr(0, 120));
        const int fold = static_cast<int>(i / (2 * count)) + 1;
        if (only_fold == 0 || fold == only_fold) builder.add(image(a, n), image(b, m), same, only_fold ? 1 : fold);
    }
    for (long number = folds * 2 * count + 2; std::getline(in, line); ++number)
        BF_CHECK_DATA(detail::is_blank(line), concat(list.string(), ":", number),
                      "more pairs than the header says; want ", folds * 2 * count, ", got ", line.substr(0, 120));
    return builder.finish(list);
}

/// A list of lines `path1 path2 0|1` (blanks or tabs), paths under root; folds are cut by the caller.
inline VerificationPairs read_pair_list(const std::filesystem::path& list, const std::filesystem::path& root) {
    std::ifstream in(list);
    BF_CHECK_DATA(in, list.string(), "cannot be read; hint: does the file exist?");
    detail::PairBuilder builder(root);
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
        if (detail::is_blank(line)) continue;
        std::istringstream fields(line);
        std::string a, b;
        int same = -1;
        fields >> a >> b >> same;
        BF_CHECK_DATA(fields && (same == 0 || same == 1), concat(list.string(), ":", number),
                      "not `path1 path2 0|1`; got ", line.substr(0, 120));
        builder.add(a, b, same == 1, 1);
    }
    return builder.finish(list);
}

}  // namespace bf
