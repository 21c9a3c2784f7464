#include <cstdio>
#include <fstream>
#include <unordered_map>

#include "bf/data/align.hpp"
#include "bf/data/decode.hpp"
#include "bf/eval/ijb.hpp"
#include "bf/io/json.hpp"
#include "bf/io/npy.hpp"
#include "commands.hpp"
#include "embed_cache.hpp"
#include "protocol.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// Loose crops, aligned by their landmarks as they are read.
class LooseCrops : public Dataset {
  public:
    LooseCrops(const fs::path& folder, const IjbFaces& faces, std::vector<std::uint32_t> which, int align_size)
        : folder_(folder), faces_(faces), which_(std::move(which)), align_size_(align_size) {}
    std::int64_t size() const override { return static_cast<std::int64_t>(which_.size()); }
    std::int64_t identities() const override { return 1; }
    std::int64_t label(std::int64_t) const override { return 0; }
    std::string name(std::int64_t i) const override { return std::string(faces_.images[at(i)]); }
    Image image(std::int64_t i) const override {
        const fs::path path = folder_ / faces_.images[at(i)];
        const Image loose = read_image(path);
        if (align_size_ == 0) return loose;
        Landmarks points;
        for (std::size_t p = 0; p < 5; ++p)
            points[p] = {static_cast<double>(faces_.points[at(i)][2 * p]),
                         static_cast<double>(faces_.points[at(i)][2 * p + 1])};
        try {
            return align_face(loose, points, align_size_, align_size_, WarpMode::opencv);
        } catch (const Error& e) {
            fail(e.code(), path.string(), "cannot be aligned: ", e.what());
        }
    }

  private:
    std::size_t at(std::int64_t i) const { return which_[static_cast<std::size_t>(i)]; }
    fs::path folder_;
    const IjbFaces& faces_;
    std::vector<std::uint32_t> which_;
    int align_size_;
};

/// Vectors of all images of the meta list; rows of images that are not there are zeros, with a flag of 0.
struct ImageVectors {
    Tensor rows;
    std::vector<char> present;
    std::string source;
};

/// Says which images are missing, or goes on without them.
void check_missing(const IjbArguments& a, const IjbFaces& faces, const std::vector<char>& present,
                   const std::string& where) {
    const auto missing = static_cast<std::size_t>(std::count(present.begin(), present.end(), 0));
    BF_CHECK_DATA(missing < present.size(), where, "holds none of the ", present.size(), " images, such as ",
                  faces.images[0], "; hint: is --root the folder with meta/ and loose_crop/?");
    if (missing == 0 || a.skip_missing) return;
    const std::size_t first = static_cast<std::size_t>(std::find(present.begin(), present.end(), 0) - present.begin());
    fail(ErrorCode::data, where, missing, " of ", present.size(), " images are missing, the first ",
         faces.images[first], "; hint: --skip-missing leaves them out of their templates");
}

ImageVectors read_vectors(const IjbArguments& a, const IjbFaces& faces) {
    const std::size_t n = faces.images.size();
    ImageVectors out{load_npy(a.embeddings), std::vector<char>(n, 1), a.embeddings};
    BF_CHECK_DATA(out.rows.rank() == 2 && out.rows.dtype() == DType::f32 && out.rows.dim(1) > 0, a.embeddings, "got ",
                  out.rows.str(), ", want [n, D] f32");
    if (a.names.empty()) {
        BF_CHECK_DATA(out.rows.dim(0) == static_cast<std::int64_t>(n), a.embeddings, "rows; got ", out.rows.dim(0),
                      ", want ", n, " in the order of the meta files; hint: --names says which row is which");
        return out;
    }
    NameList names;
    const FileSource source(a.names);
    LineReader reader(source);
    std::unordered_map<std::string, std::int64_t> row_of;
    for (std::string_view line; reader.next(line);) {
        if (line.empty()) continue;
        const std::string name(line.substr(line.find_last_of('/') + 1));
        if (!row_of.emplace(name, static_cast<std::int64_t>(row_of.size())).second)
            reader.bad("the same file name as an earlier line", "each image once", line);
    }
    BF_CHECK_DATA(static_cast<std::int64_t>(row_of.size()) == out.rows.dim(0), a.names, "names ", row_of.size(),
                  " images, but ", a.embeddings, " has ", out.rows.dim(0), " rows");
    const Tensor placed = Tensor::zeros({static_cast<std::int64_t>(n), out.rows.dim(1)});
    for (std::size_t i = 0; i < n; ++i) {
        const std::string name(faces.images[i]);
        const auto found = row_of.find(name.substr(name.find_last_of('/') + 1));
        out.present[i] = found != row_of.end();
        const auto at = static_cast<std::int64_t>(i);
        if (out.present[i]) placed.rows(at, at + 1).copy_from(out.rows.rows(found->second, found->second + 1));
    }
    out.rows = placed;
    check_missing(a, faces, out.present, a.names);
    return out;
}

ImageVectors embed_images(const IjbArguments& a, const IjbFaces& faces) {
    const fs::path folder = fs::path(a.root) / "loose_crop";
    BF_CHECK_DATA(fs::is_directory(folder), folder.string(), "is not a folder");
    const std::size_t n = faces.images.size();
    ImageVectors out{{}, std::vector<char>(n), a.model};
    std::vector<std::uint32_t> which;
    for (std::size_t i = 0; i < n; ++i)
        if ((out.present[i] = fs::exists(folder / faces.images[i]))) which.push_back(static_cast<std::uint32_t>(i));
    check_missing(a, faces, out.present, folder.string());
    const Model model = load_model(a.model, exact_device_of(a.device));
    const bool own_template = model.image_size % 112 == 0 || model.image_size % 128 == 0;
    const int side = a.aligned ? 0 : own_template ? static_cast<int>(model.image_size) : 112;
    const LooseCrops crops(folder, faces, which, side);
    const Tensor e = embed_cached(model, crops,
                                  {.what = a.set + (a.aligned ? " images as they are" : " images, aligned"),
                                   .cache = a.cache,
                                   .batch = a.batch,
                                   .flip = !a.no_flip});
    out.rows = e;
    if (which.size() == n) return out;
    out.rows = Tensor::zeros({static_cast<std::int64_t>(n), e.dim(1)});
    for (std::size_t i = 0; i < which.size(); ++i)
        out.rows.rows(which[i], which[i] + 1)
            .copy_from(e.rows(static_cast<std::int64_t>(i), static_cast<std::int64_t>(i) + 1));
    return out;
}

std::string power(double far) {
    char text[32];
    std::snprintf(text, sizeof text, "1e%.0f", std::log10(far));
    return text;
}
void one_to_one(const IjbArguments& a, const Templates& templates, IjbPairs pairs, const std::string& list,
                ProtocolReport& report) {
    to_rows(templates, pairs.first, list);
    to_rows(templates, pairs.second, list);
    const std::vector<double> scores = pair_scores(templates.features, pairs.first, pairs.second);
    if (!a.scores.empty()) save_npy(a.scores, Tensor::from<double>(scores, {static_cast<std::int64_t>(scores.size())}));
    std::vector<double> genuine;
    std::vector<std::uint32_t> cluster;
    for (std::size_t i = 0; i < scores.size(); ++i)
        if (pairs.same[i]) genuine.push_back(scores[i]), cluster.push_back(pairs.first[i]);
    const ScoreRoc roc(scores, pairs.same);
    report.rules.insert(report.rules.end(),
                        {"score: dot product of the two templates' vectors (f64); equal scores are accepted together",
                         "strict: the largest TAR whose FAR does not exceed the wanted one",
                         "insightface-nearest: of the points that scikit-learn's roc_curve keeps the one whose FAR is "
                         "nearest to the wanted one, which may exceed it; no interpolation",
                         "intervals: 95 %, bootstrap over the first template of the pairs (in IJB one a subject), at "
                         "fixed thresholds"});
    report.facts.insert(report.facts.end(), {{"pairs", std::to_string(scores.size())},
                                             {"genuine", std::to_string(roc.genuine().size())},
                                             {"impostor", std::to_string(roc.impostor().size())}});
    const std::vector<double> fars{1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
    const std::vector<OperatingPoint> nearest = roc.nearest(fars);
    std::vector<OperatingPoint> strict;
    std::vector<double> thresholds;
    for (const double far : fars) {
        strict.push_back(roc.strict(far));
        thresholds.push_back(strict.back().threshold);
    }
    const std::vector<Interval> intervals = bootstrap_tar(genuine, cluster, thresholds);
    for (std::size_t i = 0; i < fars.size(); ++i)
        report.figures.push_back(
            {"TAR@FAR=" + power(fars[i]) + " strict", strict[i].tar, intervals[i].low, intervals[i].high});
    for (std::size_t i = 0; i < fars.size(); ++i)
        report.figures.push_back({"TAR@FAR=" + power(fars[i]) + " insightface-nearest", nearest[i].tar});
    report.figures.push_back({"AUC", roc.auc()});
    report.figures.push_back({"EER", roc.eer()});
    FigureTable table{"tar_at_far", {"wanted FAR", "mode", "TAR", "FAR", "threshold"}, {}};
    for (std::size_t i = 0; i < fars.size(); ++i)
        for (const auto& [mode, p] : {std::pair{"strict", strict[i]}, std::pair{"insightface-nearest", nearest[i]}})
            table.rows.push_back({power(fars[i]), mode, digits(p.tar), digits(p.far), digits(p.threshold)});
    report.tables.push_back(table);
    Series tar{"TAR", 0, roc.drawn(120)}, frr{"FRR", 0, {}};
    for (const auto& [far, t] : tar.points) frr.points.emplace_back(far, 1 - t);
    report.curves.push_back({"roc", {report.protocol + ": ROC", "FAR", "TAR", true, {tar}}});
    report.curves.push_back({"det", {report.protocol + ": DET", "FAR", "FRR", true, {frr}}});
}

/// Vectors of the templates of a probe or gallery file.
struct SearchSide {
    Tensor rows;
    std::vector<std::uint32_t> subjects;
};
SearchSide search_side(const Templates& templates, IjbSubjects list, const fs::path& file) {
    to_rows(templates, list.template_id, file.string());
    return {rows_for_search(templates.features, list.template_id), std::move(list.subject_id)};
}

void one_to_many(const IjbArguments& a, const Templates& templates, const IjbFiles& files, ProtocolReport& report) {
    const bool closed = a.protocol == "1:N-closed";
    const SearchSide probes = search_side(templates, read_ijb_subjects(FileSource(files.probes)), files.probes);
    SearchSide galleries[2];
    for (int g = 0; g < 2; ++g)
        galleries[g] = search_side(templates, read_ijb_subjects(FileSource(files.galleries[g])), files.galleries[g]);
    const auto count = static_cast<std::int64_t>(probes.subjects.size());
    const std::string names[2] = {a.set == "ijbb" ? "S1" : "G1", a.set == "ijbb" ? "S2" : "G2"};
    constexpr std::int64_t ranks = 50;
    std::vector<double> fpirs{0.01, 0.1};
    for (int i = 0; i <= 40; ++i) fpirs.push_back(std::pow(10, -4 + i / 10.0));
    std::vector<GallerySearch> found;
    if (closed) {
        SearchSide both{Tensor::empty({galleries[0].rows.dim(0) + galleries[1].rows.dim(0), templates.features.dim(1)}),
                        galleries[0].subjects};
        both.rows.rows(0, galleries[0].rows.dim(0)).copy_from(galleries[0].rows);
        both.rows.rows(galleries[0].rows.dim(0), both.rows.dim(0)).copy_from(galleries[1].rows);
        both.subjects.insert(both.subjects.end(), galleries[1].subjects.begin(), galleries[1].subjects.end());
        found.push_back(search_gallery(probes.rows, probes.subjects, both.rows, both.subjects, fpirs, ranks));
        BF_CHECK_DATA(found[0].non_mated == 0, files.probes.string(), found[0].non_mated, " of ", count,
                      " probes have no mate in the galleries; want one each; hint: --protocol 1:N is the open set");
    } else {
        for (const SearchSide& g : galleries)
            found.push_back(search_gallery(probes.rows, probes.subjects, g.rows, g.subjects, fpirs, ranks));
    }
    report.rules.push_back(
        "score: dot product of the two templates' vectors (f32), exact search of all of the gallery");
    report.rules.push_back(
        "rank of a mate: 1 + the number of other gallery templates that score as high or higher "
        "(ties count against it)");
    report.rules.push_back(closed ? "closed set: both galleries merged, every probe has one mate (InsightFace's ijb_1n)"
                                  : "rank-k: hits in both galleries, each searched by all probes, added and divided by "
                                    "the number of probes");
    if (!closed)
        report.rules.push_back(
            "TPIR@FPIR=x: the threshold is the max(floor(n x), 1)-th largest of the best scores of the n non-mated "
            "probes; a mated probe is a hit if its mate scores above all others and above the threshold; mean of the "
            "two galleries");
    report.facts.push_back({"probes", std::to_string(count)});
    FigureTable table{"galleries", {"gallery", "templates", "mated", "non-mated", "rank-1", "rank-5", "rank-10"}, {}};
    for (std::size_t g = 0; g < found.size(); ++g) {
        const GallerySearch& f = found[g];
        const auto rate = [&](std::int64_t r) {
            return f.mated ? digits(static_cast<double>(f.hits[static_cast<std::size_t>(r - 1)]) /
                                    static_cast<double>(f.mated))
                           : "none";
        };
        const std::int64_t size =
            closed ? galleries[0].rows.dim(0) + galleries[1].rows.dim(0) : galleries[g].rows.dim(0);
        table.rows.push_back({closed ? "merged" : names[g], std::to_string(size), std::to_string(f.mated),
                              std::to_string(f.non_mated), rate(1), rate(5), rate(10)});
    }
    Series cmc{closed ? "merged" : "both galleries", 0, {}};
    for (std::int64_t r = 1; r <= ranks; ++r) {
        std::int64_t hits = 0;
        for (const GallerySearch& f : found) hits += f.hits[static_cast<std::size_t>(r - 1)];
        const double rate = static_cast<double>(hits) / static_cast<double>(count);
        cmc.points.emplace_back(r, rate);
        if (r == 1 || r == 5 || r == 10) report.figures.push_back({"rank-" + std::to_string(r), rate});
    }
    report.tables.push_back(table);
    report.curves.push_back({"cmc", {report.protocol + ": CMC", "rank", "hit rate", false, {cmc}}});
    if (closed) return;
    FigureTable at{"tpir_at_fpir", {"FPIR", "gallery", "TPIR", "threshold"}, {}};
    Series curves[3] = {{"mean", 0, {}}, {names[0], 1, {}}, {names[1], 2, {}}};
    bool whole = true;
    for (std::size_t i = 0; i < fpirs.size(); ++i) {
        const double mean = (found[0].tpir[i] + found[1].tpir[i]) / 2;
        whole = whole && std::isfinite(mean);
        if (!whole) break;
        if (i < 2) {
            report.figures.push_back({"TPIR@FPIR=" + digits(fpirs[i]), mean});
            for (std::size_t g = 0; g < 2; ++g)
                at.rows.push_back(
                    {digits(fpirs[i]), names[g], digits(found[g].tpir[i]), digits(found[g].threshold[i])});
            continue;
        }
        curves[0].points.emplace_back(fpirs[i], mean);
        for (std::size_t g = 0; g < 2; ++g) curves[g + 1].points.emplace_back(fpirs[i], found[g].tpir[i]);
    }
    if (!whole) {
        report.rules.push_back("no TPIR: a gallery has no mated or no non-mated probe");
        return;
    }
    report.tables.push_back(at);
    report.curves.push_back(
        {"tpir", {report.protocol + ": TPIR", "FPIR", "TPIR", true, {curves[0], curves[1], curves[2]}}});
}

}  // namespace

int run_eval_ijb(const IjbArguments& a) {
    BF_CHECK(!a.root.empty(), "eval ijb", "want --root FOLDER (with meta/ and loose_crop/)");
    BF_CHECK(a.model.empty() != a.embeddings.empty(), "eval ijb", "want either --model or --embeddings; got ",
             a.model.empty() ? "neither" : "both");
    BF_CHECK(a.names.empty() || !a.embeddings.empty(), "eval ijb", "--names goes with --embeddings");
    BF_CHECK(a.cache.empty() || !a.model.empty(), "eval ijb", "--cache goes with --model");
    BF_CHECK(a.embeddings.empty() || (!a.no_flip && !a.aligned), "eval ijb",
             "--no-flip and --aligned go with --model; --embeddings are taken as they are");
    BF_CHECK(a.scores.empty() || a.protocol == "1:1", "eval ijb", "--scores goes with --protocol 1:1");
    for (const std::string& file : {a.cache, a.scores}) {
        const fs::path folder = fs::path(file).parent_path();
        BF_CHECK(folder.empty() || fs::is_directory(folder), "eval ijb", file, ": no folder ", folder.string());
    }
    if (!a.out.empty()) check_output_folder(a.out);
    const IjbFiles files = ijb_files(a.root, a.set);
    const IjbMedia media = read_ijb_media(FileSource(files.media));
    const IjbFaces faces = read_ijb_faces(FileSource(files.faces));
    check_same_images(media, faces, files.media.string(), files.faces.string());
    IjbPairs pairs;  // read before the work of embedding, so that a damaged list is known at once
    if (a.protocol == "1:1") {
        pairs = read_ijb_pairs(FileSource(files.pairs));
    } else {
        for (const fs::path& file : {files.probes, files.galleries[0], files.galleries[1]})
            read_ijb_subjects(FileSource(file));
    }
    const ImageVectors vectors = a.model.empty() ? read_vectors(a, faces) : embed_images(a, faces);
    const Templates templates =
        make_templates(vectors.rows, media.template_id, media.media_id, faces.score, vectors.present,
                       {.detector_weights = !a.no_detector_weights, .normalise_images = a.normalise_images});
    ProtocolReport report;
    report.protocol = std::string(a.set == "ijbb" ? "IJB-B " : "IJB-C ") + a.protocol;
    report.rules.push_back(std::string("image vector: ") +
                           (a.model.empty() ? "as given"
                            : a.no_flip     ? "of the image alone"
                                            : "of the image plus that of its mirror image") +
                           (a.normalise_images ? ", scaled to length 1" : ", norm kept") +
                           (a.no_detector_weights ? "" : ", times the detector's score"));
    if (!a.model.empty())
        report.rules.push_back(a.aligned ? "images are taken as aligned faces"
                                         : "images are aligned by their five landmarks (InsightFace's template, "
                                           "warp as OpenCV)");
    report.rules.push_back(
        "template: sum over its media of the mean over each medium's images, scaled to length 1 (f64)");
    const auto missing = std::count(vectors.present.begin(), vectors.present.end(), 0);
    const auto empty = std::count(templates.empty.begin(), templates.empty.end(), 1);
    report.rules.push_back("missing images are left out of their medium; a template without any scores 0");
    report.facts = {{a.model.empty() ? "embeddings" : "model", vectors.source},
                    {"images", std::to_string(faces.images.size())},
                    {"missing images", std::to_string(missing)},
                    {"templates", std::to_string(templates.id.size())},
                    {"templates without an image", std::to_string(empty)}};
    if (a.protocol == "1:1")
        one_to_one(a, templates, std::move(pairs), files.pairs.string(), report);
    else
        one_to_many(a, templates, files, report);
    std::fputs((a.json ? report.json() : report.text()).c_str(), stdout);
    if (!a.out.empty()) report.write(a.out);
    return 0;
}

}  // namespace bf::program
