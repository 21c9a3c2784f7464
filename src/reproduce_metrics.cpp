// What a run of an experiment is measured by.
#include <algorithm>

#include "bf/base/error.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

const std::vector<MetricFacts>& all_metrics() {
    using enum Sense;
    static constexpr const char *whole = "over the whole training set",
                                *error = "|row - e| / |e|, e the same input encoded now, mean over ages",
                                *again = "with the same input encoded now, mean over ages";
    static const std::vector<MetricFacts> all{
        {"accuracy", "accuracy %", 100, 2, more_is_better, false, ""},
        {"tar_far_1e-2", "TAR % @ FAR 1e-2", 100, 2, more_is_better, false, ""},
        {"tar_far_1e-3", "TAR % @ FAR 1e-3", 100, 2, more_is_better, false, ""},
        {"auc", "AUC", 1, 4, more_is_better, false, ""},
        {"eer", "EER %", 100, 2, less_is_better, false, ""},
        {"recall_at_1", "Recall@1 %", 100, 2, more_is_better, false, ""},
        {"map_at_r", "MAP@R %", 100, 2, more_is_better, false, ""},
        {"classifier.loss", "loss of the classifier", 1, 4, less_is_better, true, whole},
        {"classifier.excess_loss", "excess loss of the classifier", 1, 4, less_is_better, true,
         "over the whole training set, above the least that a hundred steps on W alone find"},
        {"classifier.turning_norm", "gradient of the classifier", 1, 4, less_is_better, true,
         "over the whole training set, its norm across rows of W made unit rows"},
        {"classifier.accuracy", "accuracy % of the classifier", 100, 2, more_is_better, true, whole},
        {"queue.distinct", "identities seen in a step", 1, 1, neither, true, "by the classifier, in batch and queue"},
        {"queue.distinct_batch", "identities in a batch", 1, 1, neither, true, ""},
        {"queue.mean_error_plain", "error of stored rows", 1, 4, less_is_better, true, error},
        {"queue.mean_error_compensated", "error of compensated rows", 1, 4, less_is_better, true, error},
        {"queue.cos_plain", "cosine of stored rows", 1, 4, more_is_better, true, again},
        {"queue.cos_compensated", "cosine of compensated rows", 1, 4, more_is_better, true, again},
        {"reported", "figure of bf eval", 100, 2, more_is_better, false, ""},  // in no record: of its reports
    };
    return all;
}

}  // namespace

const MetricFacts& metric_facts(const std::string& key, const std::string& where) {
    const auto& all = all_metrics();
    const auto found = std::find_if(all.begin(), all.end(), [&](const MetricFacts& f) { return key == f.key; });
    if (found != all.end()) return *found;
    std::string names;
    for (const MetricFacts& f : all) names += (names.empty() ? "" : ", ") + std::string(f.key);
    fail(ErrorCode::usage, where, "metrics: unknown: ", key, "; hint: ", names);
}

std::vector<std::pair<std::string, std::string>> metrics_of_record(const std::string& kind) {
    std::vector<std::pair<std::string, std::string>> keys;
    for (const MetricFacts& f : all_metrics()) {
        const std::string key = f.key;
        const std::size_t dot = key.find('.');
        const std::string record = dot == std::string::npos ? "eval" : key.substr(0, dot);
        if (record == kind) keys.emplace_back(key, dot == std::string::npos ? key : key.substr(dot + 1));
    }
    return keys;
}

}  // namespace bf::program
