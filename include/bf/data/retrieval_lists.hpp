#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bf/io/lines.hpp"
#include "bf/io/mat_file.hpp"

namespace bf {

/// A set of labelled images of which some are searched for among others.
struct RetrievalList {
    struct Entry {
        std::filesystem::path path;
        std::int64_t label;  ///< as the list numbers it
    };
    std::vector<Entry> images;
    std::vector<std::int64_t> query, gallery;  ///< places in `images`; both empty: each image against all others
    std::vector<std::string> notes;            ///< what the list promises and does not keep
};

/// Which classes of a set that is cut into two halves of classes.
enum class RetrievalSplit { train, test };

namespace detail {

/// Names the first few images that are not there.
inline RetrievalList all_there(RetrievalList list, const std::string& name) {
    BF_CHECK_DATA(!list.images.empty(), name, "names no image");
    std::string some;
    std::size_t missing = 0;
    for (const auto& e : list.images)
        if (std::error_code ignored; !std::filesystem::exists(e.path, ignored) && ++missing <= 5)
            some += "\n  " + e.path.string();
    if (missing)
        fail(ErrorCode::data, name, missing, " of ", list.images.size(), " images are missing:", some,
             missing > 5 ? "\n  ..." : "", "\nhint: is the image folder right?");
    return list;
}

}  // namespace detail

/// Stanford Online Products: Ebay_test.txt (or Ebay_train.txt), a header and lines
/// `image_id class_id super_class_id path`, paths under root. Usual test half: 11,316 classes, 60,502 images.
inline RetrievalList read_sop_list(const Source& list, const std::filesystem::path& root) {
    LineReader in(list);
    RetrievalList out;
    std::string_view line;
    in.next(line);
    BF_CHECK_DATA(line.find("class_id") != std::string_view::npos, concat(in.name(), ":1"),
                  "not a list of Stanford Online Products; got ", excerpt(line),
                  ", want `image_id class_id super_class_id path`");
    while (in.next_filled(line)) {
        const auto f = fields_of(line);
        std::int64_t image = 0, label = 0, super = 0;
        BF_CHECK_DATA(
            f.size() == 4 && parse_number(f[0], image) && parse_number(f[1], label) && parse_number(f[2], super),
            in.where(), "not `image_id class_id super_class_id path`; got ", excerpt(line));
        out.images.push_back({root / f[3], label});
    }
    return detail::all_there(std::move(out), in.name());
}

/// In-Shop: list_eval_partition.txt, the number of images, a header, and lines `image item_id train|query|gallery`,
/// paths under root. A query is searched in the gallery alone. Training images are left out; an item that is both
/// trained and tested is noted.
inline RetrievalList read_inshop_list(const Source& list, const std::filesystem::path& root) {
    LineReader in(list);
    RetrievalList out;
    std::string_view line;
    std::int64_t count = 0, lines = 0;
    in.next(line);
    BF_CHECK_DATA(parse_number(fields_of(line).size() == 1 ? fields_of(line)[0] : std::string_view(), count),
                  in.where(), "want the number of images alone; got ", excerpt(line),
                  "; hint: this is to be In-Shop's list_eval_partition.txt");
    BF_CHECK_DATA(in.next(line) && line.find("item_id") != std::string_view::npos, in.where(),
                  "want the header `image_name item_id evaluation_status`; got ", excerpt(line));
    std::map<std::string, std::int64_t, std::less<>> items;
    std::set<std::int64_t> trained, tested;
    while (in.next_filled(line)) {
        const auto f = fields_of(line);
        BF_CHECK_DATA(f.size() == 3 && (f[2] == "train" || f[2] == "query" || f[2] == "gallery"), in.where(),
                      "not `image item_id train|query|gallery`; got ", excerpt(line));
        ++lines;
        const auto number = static_cast<std::int64_t>(items.size());
        const std::int64_t label = items.try_emplace(std::string(f[1]), number).first->second;
        (f[2] == "train" ? trained : tested).insert(label);
        if (f[2] == "train") continue;
        (f[2] == "query" ? out.query : out.gallery).push_back(static_cast<std::int64_t>(out.images.size()));
        out.images.push_back({root / f[0], label});
    }
    BF_CHECK_DATA(lines == count, in.name(), "number of images; got ", lines, " lines, the first line says ", count,
                  "; hint: is the file cut?");
    BF_CHECK_DATA(!out.query.empty() && !out.gallery.empty(), in.name(), "want queries and a gallery; got ",
                  out.query.size(), " and ", out.gallery.size());
    const auto both = std::count_if(tested.begin(), tested.end(), [&](std::int64_t i) { return trained.count(i) > 0; });
    if (both) out.notes.push_back(concat("warning: ", both, " items are both trained and tested"));
    return detail::all_there(std::move(out), in.name());
}

/// CUB-200-2011: images.txt (`id path`), image_class_labels.txt (`id class`), images in root/images; classes 1..100
/// train, 101..200 test.
inline RetrievalList read_cub_list(const std::filesystem::path& root, RetrievalSplit split) {
    const auto read = [](const Source& source, auto&& take) {
        LineReader in(source);
        std::string_view line;
        std::int64_t want = 1;
        while (in.next_filled(line)) {
            const auto f = fields_of(line);
            std::int64_t id = 0;
            BF_CHECK_DATA(f.size() == 2 && parse_number(f[0], id) && id == want, in.where(), "not line `", want,
                          " ..` of two fields; got ", excerpt(line));
            take(in, f[1]);
            ++want;
        }
    };
    std::vector<std::int64_t> labels;
    const FileSource images(root / "images.txt"), classes(root / "image_class_labels.txt");
    read(classes, [&](LineReader& in, std::string_view field) {
        std::int64_t label = 0;
        BF_CHECK_DATA(parse_number(field, label) && label >= 1 && label <= 200, in.where(), "class; got ",
                      excerpt(field), ", want 1..200");
        labels.push_back(label);
    });
    RetrievalList out;
    std::size_t i = 0;
    read(images, [&](LineReader& in, std::string_view path) {
        BF_CHECK_DATA(i < labels.size(), in.where(), "image has no class in ", classes.name());
        const std::int64_t label = labels[i++];
        if ((label <= 100) == (split == RetrievalSplit::train)) out.images.push_back({root / "images" / path, label});
    });
    BF_CHECK_DATA(i == labels.size(), classes.name(), "has more lines than ", images.name(), "; got ", labels.size(),
                  " and ", i);
    return detail::all_there(std::move(out), images.name());
}

/// A list of lines `path label`: the label is what follows the last blank or tab, so that paths (under root) may hold
/// blanks. Labels are numbers, or, if any is a word, all are words, numbered in sorted order.
inline RetrievalList read_label_list(const Source& list, const std::filesystem::path& root) {
    LineReader in(list);
    std::vector<std::pair<std::string, std::string>> lines;
    std::map<std::string, std::int64_t> names;
    bool numbers = true;
    std::string_view line;
    while (in.next_filled(line)) {
        line = line.substr(0, line.find_last_not_of(" \t") + 1);
        const std::size_t cut = line.find_last_of(" \t");
        BF_CHECK_DATA(cut != std::string_view::npos && line.find_first_not_of(" \t") < cut, in.where(),
                      "not `path label`; got ", excerpt(line));
        std::string_view path = line.substr(0, cut);
        path = path.substr(0, path.find_last_not_of(" \t") + 1);
        const std::string label(line.substr(cut + 1));
        std::int64_t number = 0;
        numbers = numbers && parse_number(label, number);
        names[label] = 0;
        lines.emplace_back(path, label);
    }
    std::int64_t next = 0;
    for (auto& [name, number] : names)
        if (numbers)
            parse_number(name, number);
        else
            number = next++;
    RetrievalList out;
    for (const auto& [path, label] : lines) out.images.push_back({root / path, names[label]});
    return detail::all_there(std::move(out), in.name());
}

/// Cars196: cars_annos.mat (struct array `annotations`), or a list of lines `path class`, of both official halves
/// (classes 1..196), paths under root: classes 1..98 train, 99..196 test. Link bf::images.
inline RetrievalList read_cars_list(const Source& list, const std::filesystem::path& root, RetrievalSplit split) {
    RetrievalList out;
    if (list.name().ends_with(".mat")) {
        constexpr std::string_view fields[] = {"relative_im_path", "class"};
        read_mat_structs(list, "annotations", fields, [&](const std::vector<MatValue>& v) {
            const bool path = !v[0].text.empty() && v[0].text.find('\0') == std::string::npos,
                       label = v[1].number >= 1 && v[1].number <= 196 && v[1].number == std::floor(v[1].number);
            BF_CHECK_DATA(path && label, list.name(), "annotation ", out.images.size() + 1,
                          ": want a path and a class of 1..196; got `", printable(v[0].text, 80), "`, ", v[1].number);
            out.images.push_back({root / v[0].text, static_cast<std::int64_t>(v[1].number)});
        });
        out = detail::all_there(std::move(out), list.name());
    } else {
        out = read_label_list(list, root);
    }
    for (const auto& e : out.images)
        BF_CHECK_DATA(e.label >= 1 && e.label <= 196, list.name(), "class of ", e.path.string(), "; got ", e.label,
                      ", want 1..196");
    std::erase_if(out.images, [&](const auto& e) { return (e.label <= 98) != (split == RetrievalSplit::train); });
    BF_CHECK_DATA(!out.images.empty(), list.name(), "has no image of this half of the classes");
    return out;
}

}  // namespace bf
