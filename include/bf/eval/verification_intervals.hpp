#pragma once
#include <numeric>
#include <span>
#include <vector>

#include "bf/eval/bootstrap.hpp"
#include "bf/eval/roc.hpp"

namespace bf {

/// The ROC figures of pairs that count with weights, for many draws of weights: pairs are sorted once. Equal scores
/// are accepted together, as by Roc, whose figures these are when all weights are 1.
class WeightedRoc {
  public:
    /// Scores (higher is more alike); same[i] != 0: one identity; TAR is wanted at these FARs.
    WeightedRoc(std::span<const double> scores, std::span<const char> same, std::vector<double> fars)
        : same_(same.begin(), same.end()), fars_(std::move(fars)), order_(scores.size()), last_(scores.size()) {
        BF_CHECK(scores.size() == same.size(), "roc", "counts differ; got ", scores.size(), " scores, ", same.size(),
                 " labels");
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        std::stable_sort(order_.begin(), order_.end(),
                         [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
        for (std::size_t i = 0; i < order_.size(); ++i)
            last_[i] = i + 1 == order_.size() || scores[order_[i]] != scores[order_[i + 1]];
    }
    /// Number of figures: TAR at each FAR (at the largest FAR that does not exceed it), AUC, EER.
    std::size_t size() const { return fars_.size() + 2; }

    /// The figures for these weights; not numbers if one kind of pair has no weight.
    void operator()(std::span<const std::uint32_t> weights, std::span<double> out) const {
        double genuine = 0, impostor = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) (same_[i] ? genuine : impostor) += weights[i];
        std::fill(out.begin(), out.end(), genuine > 0 && impostor > 0 ? 0 : std::nan(""));
        if (!(genuine > 0 && impostor > 0)) return;
        double far = 0, tar = 0, accepted_genuine = 0, accepted_impostor = 0, area = 0, eer = -1;
        for (std::size_t i = 0; i < order_.size(); ++i) {
            (same_[order_[i]] ? accepted_genuine : accepted_impostor) += weights[order_[i]];
            if (!last_[i]) continue;
            const double next_far = accepted_impostor / impostor, next_tar = accepted_genuine / genuine;
            area += (next_far - far) * (next_tar + tar) / 2;
            const double before = far - (1 - tar), after = next_far - (1 - next_tar);
            if (eer < 0 && after >= 0)
                eer = far + (after == before ? 0 : -before / (after - before)) * (next_far - far);
            far = next_far;
            tar = next_tar;
            for (std::size_t k = 0; k < fars_.size(); ++k)
                if (far <= fars_[k]) out[k] = tar;
        }
        out[fars_.size()] = area;
        out[fars_.size() + 1] = eer;
    }

  private:
    std::vector<char> same_;
    std::vector<double> fars_;
    std::vector<std::size_t> order_;
    std::vector<char> last_;  ///< 1: the last of its equal scores
};

/// Mean over folds of the weighted share of `yes` among the pairs that count (all, or those with of[i] != 0): the
/// fold-wise accuracy or TAR with the decisions as they were made. Folds without weight are left out.
inline double weighted_fold_share(std::span<const char> yes, std::span<const char> of, std::span<const int> fold,
                                  int folds, std::span<const std::uint32_t> weights) {
    std::vector<double> hits(static_cast<std::size_t>(folds), 0), all(static_cast<std::size_t>(folds), 0);
    for (std::size_t i = 0; i < yes.size(); ++i) {
        if (!of.empty() && !of[i]) continue;
        const auto f = static_cast<std::size_t>(fold[i]);
        all[f] += weights[i];
        if (yes[i]) hits[f] += weights[i];
    }
    double sum = 0, counted = 0;
    for (std::size_t f = 0; f < hits.size(); ++f)
        if (all[f] > 0) {
            sum += hits[f] / all[f];
            ++counted;
        }
    return sum / counted;
}

}  // namespace bf
