#pragma once
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bf/io/lines.hpp"

namespace bf {

/// Which images of a list are compared, and in which fold.
struct VerificationPairs {
    std::vector<std::filesystem::path> paths;                  ///< each image once, in order of appearance
    std::vector<std::pair<std::int64_t, std::int64_t>> pairs;  ///< places in `paths`
    std::vector<char> same;                                    ///< 1: one identity
    std::vector<int> fold;                                     ///< 1..folds
    int folds = 1;
    std::vector<std::int64_t> subject;  ///< person of each image, from 0; empty: the list does not tell
    std::vector<std::string> notes;     ///< what the list promises and does not keep
};

namespace detail {

class PairBuilder {
  public:
    explicit PairBuilder(std::filesystem::path root) : root_(std::move(root)) {}
    /// Images by their paths below the root; the persons they show, or "" where the list does not tell.
    void add(const std::string& a, const std::string& b, bool same, int fold, std::string_view who_a = {},
             std::string_view who_b = {}) {
        BF_CHECK_DATA(out.pairs.size() < max_pairs, "pairs", "want at most ", max_pairs);
        const std::int64_t first = place(a, who_a), second = place(b, who_b);
        out.pairs.emplace_back(first, second);
        out.same.push_back(same);
        out.fold.push_back(fold);
    }
    /// Every image must exist: names the first few that do not. A note is left for people who are in two folds, where
    /// the protocol promises that nobody is.
    VerificationPairs finish(const std::string& list, bool folds_share_nobody = false) {
        std::vector<std::string> missing;
        for (const auto& path : out.paths)
            if (std::error_code ignored; !std::filesystem::exists(path, ignored)) missing.push_back(path.string());
        if (!missing.empty()) {
            std::string some;
            for (std::size_t i = 0; i < missing.size() && i < 5; ++i) some += "\n  " + missing[i];
            fail(ErrorCode::data, list, missing.size(), " of ", out.paths.size(), " images are missing:", some,
                 missing.size() > 5 ? "\n  ..." : "", "\nhint: is the image folder right?");
        }
        BF_CHECK_DATA(!out.pairs.empty(), list, "has no pairs");
        if (people_.size() < 2) out.subject.clear();
        if (folds_share_nobody && !out.subject.empty()) note_shared_people();
        return std::move(out);
    }
    VerificationPairs out;

  private:
    static constexpr std::size_t max_pairs = 4000000;
    std::int64_t place(const std::string& path, std::string_view who) {
        const auto [it, added] = places_.try_emplace(path, static_cast<std::int64_t>(out.paths.size()));
        if (added) {
            out.paths.push_back(root_ / path);
            const auto number = static_cast<std::int64_t>(people_.size());
            out.subject.push_back(people_.try_emplace(std::string(who), number).first->second);
        }
        return it->second;
    }
    void note_shared_people() {
        std::vector<int> fold(people_.size(), 0);
        std::int64_t shared = 0;
        std::string example;
        for (std::size_t i = 0; i < out.pairs.size(); ++i)
            for (const std::int64_t image : {out.pairs[i].first, out.pairs[i].second}) {
                int& f = fold[static_cast<std::size_t>(out.subject[static_cast<std::size_t>(image)])];
                if (f == 0) f = out.fold[i];
                if (f <= 0 || f == out.fold[i]) continue;
                f = -1;  // counted once
                if (++shared == 1) example = out.paths[static_cast<std::size_t>(image)].string();
            }
        if (shared)
            out.notes.push_back(concat("warning: folds are not disjoint: ", shared, " of ", people_.size(),
                                       " people are in more than one, such as that of ", example));
    }
    std::filesystem::path root_;
    std::map<std::string, std::int64_t> places_;
    std::map<std::string, std::int64_t, std::less<>> people_;
};

/// LFW's name of an image: NAME/NAME_0007.jpg.
inline std::string lfw_image(std::string_view name, std::int64_t number) {
    char suffix[32];
    std::snprintf(suffix, sizeof suffix, "_%04lld.jpg", static_cast<long long>(number));
    return std::string(name) + "/" + std::string(name) + suffix;
}

/// `folds<TAB>count` or `count` alone (one fold) in the first line of LFW's files.
struct LfwHeader {
    std::int64_t folds = 1, count = 0;
};
inline LfwHeader read_lfw_header(LineReader& in) {
    std::string_view line;
    in.next(line);
    const auto fields = fields_of(line);
    LfwHeader h;
    const bool good = (fields.size() == 1 && parse_number(fields[0], h.count)) ||
                      (fields.size() == 2 && parse_number(fields[0], h.folds) && parse_number(fields[1], h.count));
    BF_CHECK_DATA(good && h.folds >= 1 && h.folds <= 1000 && h.count >= 1 && h.count <= 1000000,
                  concat(in.name(), ":1"), "not an LFW pairs header; got ", line.substr(0, 80),
                  ", want `folds<TAB>pairs`");
    return h;
}

/// Adds the pairs of one LFW file; folds are numbered from `first_fold`, only_fold > 0 takes that one alone.
inline LfwHeader add_lfw_pairs(LineReader& in, PairBuilder& builder, int first_fold, int only_fold = 0) {
    const LfwHeader header = read_lfw_header(in);
    BF_CHECK(only_fold >= 0 && only_fold <= header.folds, "fold", "got ", only_fold, ", want 1..", header.folds, " (",
             in.name(), ")");
    const std::int64_t all = header.folds * 2 * header.count;
    std::string_view line;
    for (std::int64_t i = 0; i < all; ++i) {
        BF_CHECK_DATA(in.next(line), concat(in.name(), ":", in.number() + 1), "file ends early; want ", all, " pairs");
        const bool same = i / header.count % 2 == 0;
        const auto f = fields_of(line);
        std::int64_t n = 0, m = 0;
        BF_CHECK_DATA(
            f.size() == (same ? 3u : 4u) && parse_number(f[1], n) && parse_number(f.back(), m) && n > 0 && m > 0,
            in.where(), "not a pair of ",
            same ? "one person (name, two numbers)" : "two people (name, number, name, number)", "; got ",
            excerpt(line));
        const std::string_view a = f[0], b = same ? a : f[2];
        const int fold = static_cast<int>(i / (2 * header.count)) + 1;
        if (only_fold == 0 || fold == only_fold)
            builder.add(lfw_image(a, n), lfw_image(b, m), same, only_fold ? first_fold : first_fold + fold - 1, a, b);
    }
    while (in.next_filled(line))
        fail(ErrorCode::data, in.where(), "more pairs than the header says; want ", all, ", got ", excerpt(line));
    return header;
}

}  // namespace detail

/// LFW's protocol file: header `folds<TAB>n` (or `n` alone: one fold), then a fold's n lines `name i j` (same) and n
/// lines `name1 i name2 j` (different); image NAME/NAME_%04d.jpg under root. only_fold > 0 takes that fold alone.
inline VerificationPairs read_lfw_pairs(const Source& list, const std::filesystem::path& root, int only_fold = 0) {
    LineReader in(list);
    detail::PairBuilder builder(root);
    const auto header = detail::add_lfw_pairs(in, builder, 1, only_fold);
    builder.out.folds = only_fold ? 1 : static_cast<int>(header.folds);
    return builder.finish(list.name(), builder.out.folds > 1);
}
inline VerificationPairs read_lfw_pairs(const std::filesystem::path& list, const std::filesystem::path& root,
                                        int only_fold = 0) {
    return read_lfw_pairs(FileSource(list), root, only_fold);
}

/// LFW's View 1: pairsDevTrain.txt is fold 1, pairsDevTest.txt fold 2, which share no people.
inline VerificationPairs read_lfw_view1(const Source& train, const Source& test, const std::filesystem::path& root) {
    detail::PairBuilder builder(root);
    LineReader first(train), second(test);
    detail::add_lfw_pairs(first, builder, 1, 1);
    detail::add_lfw_pairs(second, builder, 2, 1);
    builder.out.folds = 2;
    return builder.finish(test.name(), true);
}
inline VerificationPairs read_lfw_view1(const std::filesystem::path& train, const std::filesystem::path& test,
                                        const std::filesystem::path& root) {
    return read_lfw_view1(FileSource(train), FileSource(test), root);
}

/// A list of lines `path1 path2 0|1` (blanks or tabs), paths under root; folds are cut by the caller.
inline VerificationPairs read_pair_list(const Source& list, const std::filesystem::path& root) {
    LineReader in(list);
    detail::PairBuilder builder(root);
    std::string_view line;
    while (in.next_filled(line)) {
        const auto f = fields_of(line);
        BF_CHECK_DATA(f.size() == 3 && (f[2] == "0" || f[2] == "1"), in.where(), "not `path1 path2 0|1`; got ",
                      excerpt(line));
        builder.add(std::string(f[0]), std::string(f[1]), f[2] == "1", 1);
    }
    return builder.finish(list.name());
}
inline VerificationPairs read_pair_list(const std::filesystem::path& list, const std::filesystem::path& root) {
    return read_pair_list(FileSource(list), root);
}

}  // namespace bf
