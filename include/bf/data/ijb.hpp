#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "bf/data/name_list.hpp"
#include "bf/io/lines.hpp"

// The meta files of IJB-B and IJB-C as InsightFace hands them out (meta/ beside loose_crop/): text, one item a line.

namespace bf {

/// `ijbX_face_tid_mid.txt`: which template and which medium (a still, or one video) each image belongs to.
struct IjbMedia {
    NameList images;
    std::vector<std::uint32_t> template_id, media_id;
};

/// `ijbX_name_5pts_score.txt`: five landmarks (x, y in pixels of the loose crop) and the detector's score of each
/// image.
struct IjbFaces {
    NameList images;
    std::vector<std::array<float, 10>> points;
    std::vector<float> score;
};

/// `ijbX_template_pair_label.txt`: 9 bytes a pair; IJB-C has 15.6 million.
struct IjbPairs {
    std::vector<std::uint32_t> first, second;  ///< template ids
    std::vector<std::uint8_t> same;
};

/// `ijbX_1N_*.csv`: templates, ascending and each once, with their subjects.
struct IjbSubjects {
    std::vector<std::uint32_t> template_id, subject_id;
};

namespace detail {
inline bool only_blanks(std::string_view rest) { return take_word(rest).empty(); }
}  // namespace detail

/// Reads lines `image template media`. Blank lines are left out, anything else is a data Error `FILE:LINE`.
inline IjbMedia read_ijb_media(const Source& source) {
    IjbMedia out;
    const std::uint64_t lines = source.size() / 6 + 1;  // `a 1 1` and its end
    out.images.reserve(lines, source.size());
    out.template_id.reserve(static_cast<std::size_t>(lines));
    out.media_id.reserve(static_cast<std::size_t>(lines));
    LineReader reader(source);
    for (std::string_view line; reader.next(line);) {
        std::string_view rest = line;
        const std::string_view image = take_word(rest);
        if (image.empty()) continue;
        std::uint32_t t = 0, m = 0;
        if (!parse_number(take_word(rest), t) || !parse_number(take_word(rest), m) || !detail::only_blanks(rest))
            reader.bad("not an image with its template and medium", "`image template-id media-id`", line);
        out.images.add(image);
        out.template_id.push_back(t);
        out.media_id.push_back(m);
    }
    BF_CHECK_DATA(out.images.size() > 0, source.name(), "names no image");
    return out;
}

/// Reads lines `image x1 y1 ... x5 y5 score`.
inline IjbFaces read_ijb_faces(const Source& source) {
    IjbFaces out;
    const std::uint64_t lines = source.size() / 24 + 1;  // `a`, eleven digits and the end
    out.images.reserve(lines, source.size());
    out.points.reserve(static_cast<std::size_t>(lines));
    out.score.reserve(static_cast<std::size_t>(lines));
    LineReader reader(source);
    for (std::string_view line; reader.next(line);) {
        std::string_view rest = line;
        const std::string_view image = take_word(rest);
        if (image.empty()) continue;
        std::array<float, 10> points{};
        float score = 0;
        bool good = true;
        for (float& p : points) good = good && parse_number(take_word(rest), p);
        if (!good || !parse_number(take_word(rest), score) || !detail::only_blanks(rest))
            reader.bad("not an image with five points and a score", "`image x1 y1 ... x5 y5 score` (12 words)", line);
        out.images.add(image);
        out.points.push_back(points);
        out.score.push_back(score);
    }
    BF_CHECK_DATA(out.images.size() > 0, source.name(), "names no image");
    return out;
}

/// Throws a data Error unless both files name the same images in the same order, as the protocol takes for granted.
inline void check_same_images(const IjbMedia& media, const IjbFaces& faces, const std::string& media_file,
                              const std::string& faces_file) {
    const std::size_t n = std::min(media.images.size(), faces.images.size());
    for (std::size_t i = 0; i < n; ++i)
        BF_CHECK_DATA(media.images[i] == faces.images[i], faces_file, "image ", i + 1, " is ", faces.images[i],
                      ", but ", media.images[i], " in ", media_file, "; want the same images in the same order");
    BF_CHECK_DATA(media.images.size() == faces.images.size(), faces_file, "names ", faces.images.size(), " images, ",
                  media_file, " ", media.images.size(), "; want the same number; hint: is one of them cut?");
}

/// Reads lines `template template 0|1` in one pass.
inline IjbPairs read_ijb_pairs(const Source& source) {
    IjbPairs out;
    // no line of a pair is shorter than 6 bytes: memory is taken once, at most 1.5 times the file
    const auto most = static_cast<std::size_t>(source.size() / 6 + 1);
    out.first.reserve(most), out.second.reserve(most), out.same.reserve(most);
    LineReader reader(source);
    for (std::string_view line; reader.next(line);) {
        std::string_view rest = line;
        const std::string_view word = take_word(rest);
        if (word.empty()) continue;
        std::uint32_t a = 0, b = 0, same = 2;
        if (!parse_number(word, a) || !parse_number(take_word(rest), b) || !parse_number(take_word(rest), same) ||
            same > 1 || !detail::only_blanks(rest))
            reader.bad("not a pair of templates", "`template-id template-id 0|1`", line);
        out.first.push_back(a);
        out.second.push_back(b);
        out.same.push_back(static_cast<std::uint8_t>(same));
    }
    BF_CHECK_DATA(!out.same.empty(), source.name(), "holds no pair");
    return out;
}

/// Reads a gallery or a probe file: a header line, then `template,subject[,...]`; further columns are not looked at. A
/// template may stand on many lines (one an image), but belongs to one subject.
inline IjbSubjects read_ijb_subjects(const Source& source) {
    std::vector<std::uint64_t> all;  // template << 32 | subject: sorts by template
    all.reserve(static_cast<std::size_t>(source.size() / 4 + 1));
    LineReader reader(source);
    std::string_view line;
    reader.next(line);
    while (reader.next(line)) {
        if (detail::only_blanks(line)) continue;
        const std::size_t comma = line.find(','), end = std::min(line.size(), line.find(',', comma + 1));
        std::uint32_t t = 0, s = 0;
        if (comma == std::string_view::npos || !parse_number(line.substr(0, comma), t) ||
            !parse_number(line.substr(comma + 1, end - comma - 1), s))
            reader.bad("not a template with its subject", "`template-id,subject-id[,...]` below a header line", line);
        all.push_back(std::uint64_t{t} << 32 | s);
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    BF_CHECK_DATA(!all.empty(), source.name(), "names no template below its header line");
    IjbSubjects out;
    out.template_id.reserve(all.size()), out.subject_id.reserve(all.size());
    for (const std::uint64_t v : all) {
        const auto t = static_cast<std::uint32_t>(v >> 32), s = static_cast<std::uint32_t>(v);
        BF_CHECK_DATA(out.template_id.empty() || out.template_id.back() != t, source.name(), "template ", t,
                      " belongs to two subjects; got ", out.subject_id.back(), " and ", s);
        out.template_id.push_back(t);
        out.subject_id.push_back(s);
    }
    return out;
}

/// Where the meta files of a set lie below its folder.
struct IjbFiles {
    std::filesystem::path media, faces, pairs, probes, galleries[2];
};

/// set: "ijbb" or "ijbc".
inline IjbFiles ijb_files(const std::filesystem::path& root, const std::string& set) {
    BF_CHECK(set == "ijbb" || set == "ijbc", "ijb", "set; got ", set, ", want ijbb or ijbc");
    const std::string start = (root / "meta" / set).string();
    const std::string gallery = start + "_1N_gallery_" + (set == "ijbb" ? "S" : "G");
    return {start + "_face_tid_mid.txt",
            start + "_name_5pts_score.txt",
            start + "_template_pair_label.txt",
            start + "_1N_probe_mixed.csv",
            {gallery + "1.csv", gallery + "2.csv"}};
}

}  // namespace bf
