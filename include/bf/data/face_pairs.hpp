#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "bf/data/pairs.hpp"

namespace bf {

/// The two protocols of CFP: frontal against frontal, frontal against profile.
enum class CfpProtocol { frontal_frontal, frontal_profile };

/// CFP's protocol folder: Pair_list_F.txt and Pair_list_P.txt (lines `number path`, paths as `../Data/Images/..`) and
/// Split/FF or Split/FP with folders 01..10 of same.txt and diff.txt (lines `i,j`, numbers of those lists; of FP the
/// second one is a profile). Images lie under root, which holds Data. Usual: 10 folds of 350 + 350.
inline VerificationPairs read_cfp_pairs(const std::filesystem::path& protocol, const std::filesystem::path& root,
                                        CfpProtocol which) {
    namespace fs = std::filesystem;
    const auto read_images = [&](const char* name) {
        const FileSource source(protocol / name);
        LineReader in(source);
        std::vector<std::string> images;
        std::string_view line;
        while (in.next_filled(line)) {
            const auto f = fields_of(line);
            std::int64_t number = 0;
            BF_CHECK_DATA(f.size() == 2 && parse_number(f[0], number), in.where(), "not `number path`; got ",
                          excerpt(line));
            BF_CHECK_DATA(number == static_cast<std::int64_t>(images.size()) + 1, in.where(), "number; got ", number,
                          ", want ", images.size() + 1);
            std::string_view path = f[1];
            while (path.starts_with("../") || path.starts_with("./")) path.remove_prefix(path.find('/') + 1);
            images.emplace_back(path);
        }
        return images;
    };
    const bool profile = which == CfpProtocol::frontal_profile;
    const std::vector<std::string> first = read_images("Pair_list_F.txt"),
                                   second = profile ? read_images("Pair_list_P.txt") : first;
    // Data/Images/007/frontal/02.jpg: the person is the folder above frontal or profile
    const auto who = [](const std::string& path) {
        return fs::path(path).parent_path().parent_path().filename().string();
    };
    const fs::path split = protocol / "Split" / (profile ? "FP" : "FF");
    detail::PairBuilder builder(root);
    int fold = 0;
    for (;; ++fold) {
        char name[16];
        std::snprintf(name, sizeof name, "%02d", fold + 1);
        if (!fs::is_directory(split / name)) break;
        for (const bool same : {true, false}) {
            const FileSource source(split / name / (same ? "same.txt" : "diff.txt"));
            LineReader in(source);
            std::string_view line;
            while (in.next_filled(line)) {
                const auto f = fields_of(line, ',');
                std::int64_t i = 0, j = 0;
                BF_CHECK_DATA(f.size() == 2 && parse_number(f[0], i) && parse_number(f[1], j) && i >= 1 && j >= 1 &&
                                  i <= static_cast<std::int64_t>(first.size()) &&
                                  j <= static_cast<std::int64_t>(second.size()),
                              in.where(), "not a pair `i,j` of images 1..", first.size(), " and 1..", second.size(),
                              "; got ", excerpt(line));
                const std::string &a = first[static_cast<std::size_t>(i - 1)],
                                  &b = second[static_cast<std::size_t>(j - 1)];
                builder.add(a, b, same, fold + 1, who(a), who(b));
            }
        }
    }
    BF_CHECK_DATA(fold >= 2, split.string(), "has no folders 01, 02, ..; hint: --pairs names CFP's folder Protocol");
    builder.out.folds = fold;
    return builder.finish(split.string(), true);
}

/// How a list of AgeDB, CALFW or CPLFW names its people.
enum class NameRule {
    up_to_number,  ///< NAME_0001.jpg (CALFW, CPLFW)
    second_part,   ///< 12_NAME_34_m.jpg (AgeDB)
};

/// CALFW's and CPLFW's lists: two lines a pair, each `image token`; token 0 is a different pair, any other number a
/// same pair (CALFW writes the fold there). All same pairs come first, then as many different ones; fold k of `folds`
/// takes the k-th share of each (300 + 300 of 6,000 pairs), as FaceX-Zoo interleaves them. A list of three fields a
/// line, `image1 image2 0|1`, is taken too; its folds are contiguous, as InsightFace's AgeDB-30 means them.
inline VerificationPairs read_two_line_pairs(const Source& list, const std::filesystem::path& root, NameRule rule,
                                             int folds = 10) {
    LineReader in(list);
    detail::PairBuilder builder(root);
    const auto who = [rule](std::string_view image) {
        image.remove_prefix(std::min(image.rfind('/') + 1, image.size()));
        if (rule == NameRule::up_to_number) return image.substr(0, image.rfind('_'));
        const std::size_t begin = image.find('_') + 1, end = image.find('_', begin);
        return begin == 0 || end == std::string_view::npos ? image : image.substr(begin, end - begin);
    };
    std::string_view line;
    bool two_lines = true;
    while (in.next_filled(line)) {
        auto f = fields_of(line);
        if (builder.out.pairs.empty()) two_lines = f.size() == 2;
        std::int64_t token = 0, second_token = 0;
        if (!two_lines) {
            BF_CHECK_DATA(f.size() == 3 && (f[2] == "0" || f[2] == "1"), in.where(),
                          "neither `image token` nor `image1 image2 0|1`; got ", excerpt(line));
            builder.add(std::string(f[0]), std::string(f[1]), f[2] == "1", 1, who(f[0]), who(f[1]));
            continue;
        }
        BF_CHECK_DATA(f.size() == 2 && parse_number(f[1], token), in.where(), "not `image token`; got ", excerpt(line));
        const std::string first(f[0]);
        BF_CHECK_DATA(in.next_filled(line), concat(in.name(), ":", in.number() + 1),
                      "file ends after the first image of a pair");
        f = fields_of(line);
        BF_CHECK_DATA(f.size() == 2 && parse_number(f[1], second_token), in.where(), "not `image token`; got ",
                      excerpt(line));
        BF_CHECK_DATA((token != 0) == (second_token != 0), in.where(), "the two lines of a pair disagree; got tokens ",
                      token, " and ", second_token);
        BF_CHECK_DATA(token == 0 || builder.out.same.empty() || builder.out.same.back(), in.where(),
                      "a same pair after a different one; want all same pairs first");
        builder.add(first, std::string(f[0]), token != 0, 1, who(first), who(f[0]));
    }
    VerificationPairs out = builder.finish(list.name());
    const std::size_t n = out.pairs.size(), k = static_cast<std::size_t>(folds);
    BF_CHECK(folds >= 2, "folds", "got ", folds, ", want 2 or more");
    BF_CHECK_DATA(n >= 2 * k, list.name(), "has ", n, " pairs for ", folds, " folds; want two a fold or more");
    out.folds = folds;
    if (!two_lines) {
        for (std::size_t i = 0, f = 0, end = 0; i < n; ++i) {
            if (i == end) end += n / k + (f++ < n % k);
            out.fold[i] = static_cast<int>(f);
        }
        return out;
    }
    const std::size_t half = n / 2;
    const auto same = static_cast<std::size_t>(std::count(out.same.begin(), out.same.end(), 1));
    BF_CHECK_DATA(2 * same == n && half % k == 0, list.name(), "want as many same as different pairs, a multiple of ",
                  folds, " each; got ", same, " and ", n - same);
    // in the order of the folds: the k-th share of the same pairs, then that of the different ones
    VerificationPairs dealt = out;
    const std::size_t share = half / k;
    for (std::size_t f = 0, to = 0; f < k; ++f)
        for (std::size_t part = 0; part < 2; ++part)
            for (std::size_t i = 0; i < share; ++i, ++to) {
                const std::size_t from = part * half + f * share + i;
                dealt.pairs[to] = out.pairs[from];
                dealt.same[to] = out.same[from];
                dealt.fold[to] = static_cast<int>(f) + 1;
            }
    return dealt;
}
inline VerificationPairs read_two_line_pairs(const std::filesystem::path& list, const std::filesystem::path& root,
                                             NameRule rule, int folds = 10) {
    return read_two_line_pairs(FileSource(list), root, rule, folds);
}

/// YTF's splits.txt: a header line, then `split, pair, NAME/VIDEO, NAME/VIDEO, 0|1` with commas. `paths` names the
/// folders of the videos under root (aligned_images_DB), each with its frames. Usual: 5,000 pairs in 10 splits.
inline VerificationPairs read_ytf_pairs(const Source& list, const std::filesystem::path& root) {
    LineReader in(list);
    detail::PairBuilder builder(root);
    std::string_view line;
    in.next(line);
    while (in.next_filled(line)) {
        const auto f = fields_of(line, ',');
        std::int64_t split = 0;
        BF_CHECK_DATA(f.size() >= 5 && parse_number(f[0], split) && split >= 1 && split <= 1000 && !f[2].empty() &&
                          !f[3].empty() && (f[4] == "0" || f[4] == "1"),
                      in.where(), "not `split, pair, NAME/VIDEO, NAME/VIDEO, 0|1`; got ", excerpt(line));
        const auto who = [](std::string_view video) { return video.substr(0, video.find('/')); };
        builder.add(std::string(f[2]), std::string(f[3]), f[4] == "1", static_cast<int>(split), who(f[2]), who(f[3]));
        builder.out.folds = std::max(builder.out.folds, static_cast<int>(split));
    }
    return builder.finish(list.name(), true);
}
inline VerificationPairs read_ytf_pairs(const std::filesystem::path& list, const std::filesystem::path& root) {
    return read_ytf_pairs(FileSource(list), root);
}

}  // namespace bf
