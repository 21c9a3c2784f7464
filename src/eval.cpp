#include <algorithm>
#include <cstdio>

#include "bf/eval/verification_intervals.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/train/config.hpp"
#include "commands.hpp"
#include "datasets.hpp"
#include "model.hpp"
#include "protocol.hpp"
#include "score_files.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

/// The pairs that are tested (of View 1 those of its second file), with their decisions.
struct Tested {
    std::vector<std::size_t> places;  ///< in the set's pairs
    std::vector<double> scores;       ///< cosine
    std::vector<char> same, accepted, right, accepted_at_far;
    std::vector<int> fold;
    std::vector<std::pair<std::int64_t, std::int64_t>> subjects;  ///< empty: not known
};

Tested tested_pairs(const ValidationSet& set, const Verification& v, bool view1) {
    Tested t;
    for (std::size_t i = 0; i < set.pairs.size(); ++i) {
        if (view1 && set.fold[i] == 0) continue;
        const auto f = static_cast<std::size_t>(set.fold[i]);
        t.places.push_back(i);
        t.scores.push_back(1 - v.distances[i] / 2);
        t.same.push_back(set.same[i]);
        t.accepted.push_back(v.distances[i] < v.folds.thresholds[f]);
        t.accepted_at_far.push_back(v.distances[i] < v.fold_tar.thresholds[f]);
        t.right.push_back(t.accepted.back() == set.same[i]);
        t.fold.push_back(view1 ? 0 : set.fold[i]);
        if (!set.subject.empty())
            t.subjects.emplace_back(set.subject[static_cast<std::size_t>(set.pairs[i].first)],
                                    set.subject[static_cast<std::size_t>(set.pairs[i].second)]);
    }
    return t;
}

std::string protocol_name(const EvalArguments& a, const ValidationSet& set) {
    const std::string folds = concat(", ", set.folds, "-fold verification");
    if (a.synthetic) return "drawn faces" + folds;
    if (a.kind == "lfw_view1") return "LFW View 1, threshold of pairsDevTrain on pairsDevTest";
    if (a.kind == "lfw" && a.fold)
        return concat("LFW View 2, fold ", a.fold, " alone, dealt out to ", set.folds, " folds");
    if (a.kind == "lfw") return "LFW View 2" + folds;
    if (a.kind == "bin") return "pairs of a .bin" + folds;
    if (a.kind == "list") return "pairs of a list" + folds;
    if (a.kind == "cfp_fp") return "CFP-FP" + folds;
    if (a.kind == "cfp_ff") return "CFP-FF" + folds;
    if (a.kind == "agedb") return "AgeDB-30" + folds;
    if (a.kind == "calfw") return "CALFW" + folds;
    if (a.kind == "cplfw") return "CPLFW" + folds;
    return "YTF" + folds;
}

constexpr const char* figure_names[] = {"accuracy", "TAR_folds@FAR=1e-3", "TAR@FAR=1e-3", "TAR@FAR=1e-2", "AUC", "EER"};
constexpr std::size_t figure_count = std::size(figure_names);

std::vector<Interval> intervals_of(const Tested& t, int folds, const Resampling& resampling, int rounds) {
    const WeightedRoc roc(t.scores, t.same, {1e-3, 1e-2});
    return bootstrap(resampling, figure_count,
                     [&](std::span<const std::uint32_t> weights, std::span<double> out) {
                         out[0] = weighted_fold_share(t.right, {}, t.fold, folds, weights);
                         out[1] = weighted_fold_share(t.accepted_at_far, t.same, t.fold, folds, weights);
                         roc(weights, out.subspan(2));
                     },
                     {.rounds = rounds});
}

ProtocolReport report_of(const EvalArguments& a, const ValidationSet& set, const Verification& v, const Tested& t,
                         bool network) {
    const bool view1 = a.kind == "lfw_view1" && !a.synthetic;
    const int folds = view1 ? 1 : set.folds;
    const Roc roc(t.scores, t.same);
    ProtocolReport r;
    r.protocol = protocol_name(a, set);
    r.rules = {
        network ? "embedding: the raw embeddings of image and mirror image are summed, then normalised"
                : "embedding: mean-free grey pixels at 32 x 32 (no network, no mirror image)",
        view1 ? "accuracy: same if squared distance of unit vectors < threshold; thresholds 0..3.99 by 0.01, the first "
                "that is best on pairsDevTrain"
              : "accuracy: same if squared distance of unit vectors < threshold; thresholds 0..3.99 by 0.01, the first "
                "that is best on the other folds",
        view1 ? "TAR_folds@FAR: threshold 0..3.999 by 0.001 where pairsDevTrain has that FAR, linear between the last "
                "thresholds of neighbouring FARs, 0 if it is never reached"
              : "TAR_folds@FAR: threshold 0..3.999 by 0.001 where the other folds have that FAR, linear between the "
                "last thresholds of neighbouring FARs, 0 if it is never reached; mean over folds",
        "TAR@FAR: over all tested pairs, at the largest FAR that does not exceed it; equal scores are accepted "
        "together",
        "EER: linear between the points of the ROC; AUC: trapezoids, equal scores count half"};
    if (!set.frames.empty())
        r.rules.push_back(
            "video: mean of its frames' raw embeddings, normalised at the end; with the sum over mirror images it does "
            "not matter which of sum and mean is taken first");
    if (a.rounds > 0)
        r.rules.push_back(concat("intervals: 95 %, percentile bootstrap over pairs, ", a.rounds,
                                 " rounds, decisions of accuracy and TAR_folds kept as they were made",
                                 t.subjects.empty() ? "" : "; table by_subject: the people are drawn, not the pairs"));
    r.facts = {{"pairs", concat(t.places.size(), " (", std::count(t.same.begin(), t.same.end(), 1), " same)")},
               {"model", network ? a.model : "pixels"}};
    if (!a.synthetic) r.facts.insert(r.facts.begin(), {"list", a.pairs});
    for (const std::string& note : set.notes) r.facts.emplace_back("note", note);

    const double values[] = {view1 ? v.folds.accuracy[1] : v.folds.mean,
                             view1 ? v.fold_tar.tar[1] : v.fold_tar.mean,
                             roc.tar_at(1e-3),
                             roc.tar_at(1e-2),
                             roc.auc(),
                             roc.eer()};
    std::vector<Interval> by_pair(figure_count, {0, 0});
    if (a.rounds > 0) {
        by_pair = intervals_of(t, folds, Resampling::items(t.places.size()), a.rounds);
        if (!t.subjects.empty()) {
            const auto by_subject = intervals_of(t, folds, Resampling::subject_pairs(t.subjects), a.rounds);
            FigureTable table{"by_subject", {"figure", "value", "low", "high"}, {}};
            for (std::size_t k = 0; k < figure_count; ++k)
                table.rows.push_back(
                    {figure_names[k], number(values[k]), number(by_subject[k].low), number(by_subject[k].high)});
            r.tables.push_back(std::move(table));
        }
    }
    for (std::size_t k = 0; k < figure_count; ++k)
        r.figures.push_back({figure_names[k], values[k], by_pair[k].low, by_pair[k].high, k == 0 || k == 4 ? 5 : 4});
    const auto after = [&](std::size_t place, Figure f) {
        r.figures.insert(r.figures.begin() + static_cast<std::ptrdiff_t>(place), std::move(f));
    };
    if (view1) {
        after(1, {"threshold", v.folds.thresholds[1], 0, 0, 3});
    } else {
        after(1, {"std", v.folds.std});
        after(2, {"standard_error", v.folds.standard_error});
        after(3, {"threshold", v.folds.threshold, 0, 0, 3});
        after(5, {"TAR_folds_std", v.fold_tar.std, 0, 0, 4});
        after(6, {"FAR_folds", v.fold_tar.far});
        const VerificationResult zoo = verify_tpr_fpr_folds(t.scores, t.same, t.fold, folds);
        r.rules.push_back(
            "facexzoo: threshold of largest TPR - FPR among 1,000 cosines of the other folds' range, the first");
        r.figures.push_back({"facexzoo_accuracy", zoo.mean});
        r.figures.push_back({"facexzoo_standard_error", zoo.standard_error});
        FigureTable table{"folds", {"fold", "pairs", "accuracy", "threshold", "TAR", "TAR_threshold"}, {}};
        for (int f = 0; f < folds; ++f) {
            const auto k = static_cast<std::size_t>(f);
            table.rows.push_back({std::to_string(f + 1), std::to_string(std::count(t.fold.begin(), t.fold.end(), f)),
                                  number(v.folds.accuracy[k]), number(v.folds.thresholds[k], "%.2f"),
                                  number(v.fold_tar.tar[k], "%.4f"), number(v.fold_tar.thresholds[k])});
        }
        r.tables.push_back(std::move(table));
    }
    r.figures.push_back({"XNorm", v.x_norm, 0, 0, 3});

    Chart curve{r.protocol, "false accept rate", "true accept rate", true, {{v.name, 0, roc.thinned(200), false}}};
    r.curves.emplace_back("roc", curve);
    curve.y_label = "false reject rate";
    for (auto& point : curve.series[0].points) point.second = 1 - point.second;
    r.curves.emplace_back("det", std::move(curve));
    return r;
}

}  // namespace

int run_eval(const EvalArguments& given) {
    EvalArguments a = given;
    if (a.kind == "cfp") a.kind = "cfp_fp";
    BF_CHECK(a.pixels || !a.model.empty(), "eval", "want --model FILE or RUN (or --pixels for the baseline)");
    BF_CHECK(!a.pixels || a.model.empty(), "eval", "got both --pixels and --model; want one of them");
    BF_CHECK(!a.pixels || a.device == "cpu", "eval", "--pixels runs on the cpu; got --device ", a.device);
    BF_CHECK(a.fold == 0 || (a.kind == "lfw" && !a.synthetic), "eval",
             "--fold goes with --kind lfw only: no other kind has one fold to take alone");
    const bool view1 = a.kind == "lfw_view1" && !a.synthetic;
    BF_CHECK(a.synthetic || !a.pairs.empty(), "eval", "want --pairs FILE and --root FOLDER");
    BF_CHECK(a.synthetic || a.kind == "bin" || !a.root.empty(), "eval", "want --pairs FILE and --root FOLDER");
    BF_CHECK(view1 != a.train_pairs.empty(), "eval",
             "--train-pairs goes with --kind lfw_view1, which wants both: --train-pairs pairsDevTrain.txt --pairs "
             "pairsDevTest.txt");
    if (!a.out.empty()) check_output_folder(a.out);
    ValConfig val;
    val.name = val.kind = a.kind;
    val.root = a.root;
    val.pairs = a.pairs;
    val.only_fold = a.fold;
    val.folds = a.folds;
    if (a.synthetic) val.name = val.kind = "synthetic";
    Model model;
    if (!a.pixels) model = load_model(a.model, exact_device_of(a.device));
    const bool network = model.net != nullptr;
    const ValidationSet set =
        view1 ? open_lfw_view1(a.train_pairs, a.pairs, a.root) : open_validation(val, model.image_size);
    WorkProgress progress("images", set.images->size());
    const Verification v =
        network ? verify(*model.net, set, model.image_size, model.input, progress.callback()) : verify_pixels(set);
    const Tested t = tested_pairs(set, v, view1);
    const ProtocolReport report = report_of(a, set, v, t, network);
    std::fputs(a.json ? report.json().c_str() : report.text().c_str(), stdout);
    if (!a.out.empty()) {
        report.write(a.out);
        std::vector<PairScore> scores;
        for (std::size_t i = 0; i < t.places.size(); ++i) {
            const auto [x, y] = set.pairs[t.places[i]];
            scores.push_back({t.scores[i], t.same[i], t.fold[i] + 1, t.accepted[i], set.item(x), set.item(y)});
        }
        write_pair_scores(std::filesystem::path(a.out) / "scores.csv", scores);
        if (!view1) write_file(std::filesystem::path(a.out) / "eval.json", v.record(0).line());
    }
    return 0;
}

}  // namespace bf::program
