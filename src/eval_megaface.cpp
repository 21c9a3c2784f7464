#include <cstdio>
#include <map>

#include "bf/data/file_dataset.hpp"
#include "bf/data/megaface.hpp"
#include "bf/eval/megaface.hpp"
#include "bf/io/json.hpp"
#include "bf/io/npy.hpp"
#include "commands.hpp"
#include "embed_cache.hpp"
#include "protocol.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// One side of the protocol: its list and where its vectors come from.
struct Side {
    const char* name;  ///< as the options call it
    std::string list_file, root, embeddings;
    MegaFaceList list;

    std::size_t size() const { return list.paths.size(); }
};

/// Vectors of images [begin, end) of a side, from its feature files.
Tensor read_features(const Side& side, const std::string& ending, std::size_t begin, std::size_t end) {
    Tensor out;
    std::vector<float> one;
    for (std::size_t i = begin; i < end; ++i) {
        one.clear();
        const FileSource file(fs::path(side.root) / (std::string(side.list.paths[i]) + ending));
        read_feature_file(file, one);
        const auto dim = static_cast<std::int64_t>(one.size());
        if (!out.defined()) out = Tensor::empty({static_cast<std::int64_t>(end - begin), dim});
        BF_CHECK_DATA(out.dim(1) == dim, file.name(), "holds ", dim, " numbers; want ", out.dim(1),
                      " as the files before");
        std::copy(one.begin(), one.end(), out.data<float>() + static_cast<std::int64_t>(i - begin) * dim);
    }
    return out;
}

/// Counts the feature files or images of a side that are not there: the protocol has no rule for them.
void check_files(const Side& side, const std::string& ending) {
    std::size_t missing = 0, first = 0;
    const fs::path root = side.root;
    BF_CHECK_DATA(fs::is_directory(root), side.root, "is not a folder (--", side.name, "-root)");
    for (std::size_t i = 0; i < side.size(); ++i)
        if (!fs::exists(root / (std::string(side.list.paths[i]) + ending)) && missing++ == 0) first = i;
    BF_CHECK_DATA(missing == 0, side.list_file, missing, " of ", side.size(), " files are missing below ", side.root,
                  ", the first ", side.list.paths[first], ending, "; hint: --", side.name, "-root",
                  ending.empty() ? "" : " and --ending");
}

/// All vectors of a side at once: given ones, or those of a model.
Tensor whole(const MegaFaceArguments& a, const Side& side, const Model* model) {
    if (!side.embeddings.empty()) {
        const Tensor e = load_npy(side.embeddings);
        BF_CHECK_DATA(e.rank() == 2 && e.dtype() == DType::f32 && e.dim(0) == static_cast<std::int64_t>(side.size()),
                      side.embeddings, "got ", e.str(), ", want [", side.size(), ", D] f32, a row for each image of ",
                      side.list_file);
        return e;
    }
    if (!model) return read_features(side, a.ending, 0, side.size());
    std::vector<FileDataset::Entry> entries;
    for (std::size_t i = 0; i < side.size(); ++i) entries.push_back({fs::path(side.root) / side.list.paths[i], 0});
    return embed_cached(*model, FileDataset(std::move(entries)),
                        {.what = std::string("MegaFace ") + side.name + "s",
                         .cache = a.cache.empty() ? "" : a.cache + "." + side.name + "s.npy",
                         .batch = a.batch});
}

std::vector<char> flags(const Side& side, const std::string& noise_file, int parts, const char* option) {
    std::vector<char> noisy(side.size());
    if (noise_file.empty()) return noisy;
    const std::vector<std::string> noise = read_noise_list(FileSource(noise_file));
    for (std::size_t i = 0; i < side.size(); ++i)
        noisy[i] = std::binary_search(noise.begin(), noise.end(), path_end(side.list.paths[i], parts));
    const bool any = std::find(noisy.begin(), noisy.end(), 1) != noisy.end();
    BF_CHECK_DATA(noise.empty() || any, noise_file, "names no image of ", side.list_file, "; got names such as ",
                  noise.front(), ", want such as ", path_end(side.list.paths[0], parts), "; hint: ", option);
    return noisy;
}

}  // namespace

int run_eval_megaface(const MegaFaceArguments& a) {
    BF_CHECK(!a.probes.empty() && !a.distractors.empty(), "eval megaface", "want --probes LIST and --distractors LIST");
    Side probes{"probe", a.probes, a.probe_root, a.probe_embeddings, {}},
        distractors{"distractor", a.distractors, a.distractor_root, a.distractor_embeddings, {}};
    for (const Side* s : {&probes, &distractors}) {
        BF_CHECK(s->root.empty() != s->embeddings.empty(), "eval megaface", "want either --", s->name, "-root or --",
                 s->name, "-embeddings; got ", s->root.empty() ? "neither" : "both");
        BF_CHECK(s->root.empty() || a.model.empty() != a.ending.empty(), "eval megaface", "--", s->name,
                 "-root wants either --ending (feature files) or --model (images); got ",
                 a.model.empty() ? "neither" : "both");
    }
    BF_CHECK(a.cache.empty() || !a.model.empty(), "eval megaface", "--cache goes with --model");
    const fs::path cache_folder = fs::path(a.cache).parent_path();
    BF_CHECK(cache_folder.empty() || fs::is_directory(cache_folder), "eval megaface", a.cache, ": no folder ",
             cache_folder.string());
    if (!a.out.empty()) check_output_folder(a.out);
    for (Side* s : {&probes, &distractors}) {
        s->list = read_megaface_list(FileSource(s->list_file));
        if (!s->root.empty()) check_files(*s, a.ending);
    }
    // who stands on a probe: the list's id, or the photo's folder
    std::map<std::string, std::int64_t> numbers;
    std::vector<std::int64_t> person;
    for (std::size_t i = 0; i < probes.size(); ++i) {
        const std::string_view path = probes.list.paths[i];
        const std::size_t slash = path.find_last_of('/');
        BF_CHECK_DATA(probes.list.ids.size() || slash != std::string_view::npos, a.probes, "probe ", path,
                      " has neither an id nor a folder; want PERSON/PHOTO");
        const std::string who(probes.list.ids.size() ? probes.list.ids[i] : path_end(path.substr(0, slash), 1));
        person.push_back(numbers.emplace(who, static_cast<std::int64_t>(numbers.size())).first->second);
    }
    const std::vector<char> noisy_probes = flags(probes, a.probe_noise, 1, "--probe-noise lists file names"),
                            noisy_distractors =
                                flags(distractors, a.distractor_noise, 3, "--distractor-noise lists A/B/PHOTO");
    Model model;
    if (!a.model.empty()) model = load_model(a.model, exact_device_of(a.device));
    const Model* net = a.model.empty() ? nullptr : &model;
    const Tensor rows = whole(a, probes, net).clone();
    replace_noisy_probes(rows, person, noisy_probes);

    const std::vector<double> fars{1e-6, 1e-5, 1e-4};
    const std::uint64_t impostors = std::uint64_t{probes.size()} * distractors.size();
    DistractorScores scores(rows, a.ranks, impostors_to_keep(impostors, fars.back()));
    const bool files = distractors.embeddings.empty() && !net;
    const Tensor all = files ? Tensor() : whole(a, distractors, net);
    constexpr std::size_t block = 16384;
    WorkProgress progress("distractors", distractors.size());
    for (std::size_t begin = 0; begin < distractors.size(); begin += block) {
        const std::size_t end = std::min(distractors.size(), begin + block);
        const Tensor part = files ? read_features(distractors, a.ending, begin, end)
                                  : all.rows(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end));
        BF_CHECK_DATA(part.dim(1) == rows.dim(1), "eval megaface", "distractors have ", part.dim(1),
                      " numbers, probes ", rows.dim(1), "; want the same network for both");
        scores.add(part, std::span(noisy_distractors).subspan(begin, end - begin));
        progress.show(end);
    }
    const MegaFaceResult r = megaface_result(scores, person, fars);

    ProtocolReport report;
    report.protocol = "MegaFace challenge 1";
    report.rules = {
        std::string("vectors: ") + (net ? "image plus mirror image" : "as given") +
            ", scaled to length 1; cosine (f32)",
        "rank-k: each photo of a person in turn joins the distractors and every other photo of that person probes; a "
        "hit if the two score at least the probe's k-th best distractor (equal scores count for the mate); hits / sum "
        "of M (M - 1)",
        "TAR@FAR=x: pairs of photos of one person against all pairs of probe and distractor; the largest TAR whose "
        "FAR does not exceed x; equal scores are accepted together",
        "a missing image or feature file is an error"};
    if (!a.probe_noise.empty())
        report.rules.push_back(
            "a noisy probe becomes the mean of its person's clean unit vectors + U(-0.001, 0.001), "
            "scaled to length 1 (counter-based draws, seed 1)");
    if (!a.distractor_noise.empty())
        report.rules.push_back(
            "a noisy distractor never wins (the extra dimension of 100 of InsightFace's lists); its "
            "pairs count as refused");
    const auto count = [](const std::vector<char>& v) { return std::to_string(std::count(v.begin(), v.end(), 1)); };
    report.facts = {
        {"probes", concat(probes.size(), " photos of ", r.people, " people, ", count(noisy_probes), " noisy")},
        {"distractors", concat(distractors.size(), ", ", count(noisy_distractors), " noisy")},
        {"trials", std::to_string(r.trials)},
        {"genuine pairs", std::to_string(r.genuine)},
        {"impostor pairs", std::to_string(r.impostors)}};
    if (net) report.facts.insert(report.facts.begin(), {"model", a.model});
    Series cmc{"", 0, {}};
    for (std::size_t k = 1; k <= r.hits.size(); ++k) {
        const double rate = static_cast<double>(r.hits[k - 1]) / static_cast<double>(r.trials);
        cmc.points.emplace_back(k, rate);
        if (k == 1 || k == 5 || k == 10) report.figures.push_back({"rank-" + std::to_string(k), rate});
    }
    FigureTable table{"tar_at_far", {"wanted FAR", "TAR", "FAR", "threshold"}, {}};
    for (std::size_t i = 0; i < fars.size(); ++i) {
        const OperatingPoint& p = r.points[i];
        char name[32];
        std::snprintf(name, sizeof name, "TAR@FAR=1e%.0f", std::log10(fars[i]));
        report.figures.push_back({name, p.tar});
        table.rows.push_back({name + 8, digits(p.tar), digits(p.far), digits(p.threshold)});
    }
    report.tables = {table};
    report.curves = {{"cmc",
                      {report.protocol + ": CMC, " + std::to_string(distractors.size()) + " distractors",
                       "rank",
                       "identification rate",
                       false,
                       {cmc}}}};
    std::fputs((a.json ? report.json() : report.text()).c_str(), stdout);
    if (!a.out.empty()) report.write(a.out);
    return 0;
}

}  // namespace bf::program
