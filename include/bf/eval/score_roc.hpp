#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/eval/roc.hpp"

// The receiver operating characteristic at the sizes of IJB-C: 15.6 million scores, sorted by radix, and curves that
// are walked instead of kept. All rates are counts divided once, so that they equal scikit-learn's to the bit.

namespace bf {

/// Sorts finite numbers from large to small: radix over their bits, linear in their number.
inline void sort_descending(std::vector<double>& values) {
    if (values.size() < 4096) {
        std::sort(values.begin(), values.end(), std::greater<>());
        return;
    }
    constexpr int digit = 11, passes = 6;
    constexpr std::uint64_t mask = (1u << digit) - 1, sign = std::uint64_t{1} << 63;
    std::vector<double> other(values.size());
    std::vector<std::size_t> counts(passes << digit);
    // larger numbers get smaller keys; -0.0 is the same score as 0.0
    const auto key = [](double v) {
        const auto bits = std::bit_cast<std::uint64_t>(v + 0.0);
        return bits & sign ? bits : ~(bits | sign);
    };
    for (const double v : values)
        for (int p = 0; p < passes; ++p)
            ++counts[static_cast<std::size_t>(p << digit) + (key(v) >> (p * digit) & mask)];
    for (int p = 0; p < passes; ++p) {
        std::size_t* count = counts.data() + (p << digit);
        if (std::find(count, count + mask + 1, values.size()) != count + mask + 1) continue;  // one digit throughout
        std::size_t at = 0;
        for (std::size_t d = 0; d <= mask; ++d) at += std::exchange(count[d], at);
        for (const double v : values) other[count[key(v) >> (p * digit) & mask]++] = v;
        values.swap(other);
    }
}

/// A point of a curve at a wanted FAR.
struct OperatingPoint {
    double far, tar, threshold;  ///< what was reached; pairs with score >= threshold are accepted
};

/// The largest TAR whose FAR does not exceed `far`, from scores sorted from large to small. Of `impostors` scores the
/// largest will do, if there is one more of them than `far` may accept; equal scores are accepted or refused together.
inline OperatingPoint strict_point(std::span<const double> genuine, std::span<const double> largest_impostors,
                                   std::uint64_t impostors, double far) {
    const auto n = static_cast<double>(impostors);
    // the largest count whose rate, divided as anyone divides it, does not exceed `far`
    auto allowed = static_cast<std::uint64_t>(std::clamp(std::ceil(far * n), 0.0, n));
    while (allowed > 0 && static_cast<double>(allowed) / n > far) --allowed;
    if (allowed == impostors) {
        const double last = std::min(genuine.back(), largest_impostors.back());
        return {1, 1, last};
    }
    BF_CHECK(allowed < largest_impostors.size(), "strict_point", "impostor scores; got ", largest_impostors.size(),
             ", want ", allowed + 1);
    const double refused = largest_impostors[allowed];
    const auto above = [&](std::span<const double> scores) {
        return std::partition_point(scores.begin(), scores.end(), [&](double s) { return s > refused; }) -
               scores.begin();
    };
    const auto fp = above(largest_impostors), tp = above(genuine);
    double threshold = HUGE_VAL;  // the least score that is accepted
    if (fp > 0) threshold = largest_impostors[static_cast<std::size_t>(fp - 1)];
    if (tp > 0) threshold = std::min(threshold, genuine[static_cast<std::size_t>(tp - 1)]);
    return {static_cast<double>(fp) / n, static_cast<double>(tp) / static_cast<double>(genuine.size()), threshold};
}

/// ROC of a great many scores (higher is more alike).
class ScoreRoc {
  public:
    ScoreRoc(std::vector<double> genuine, std::vector<double> impostor)
        : genuine_(std::move(genuine)), impostor_(std::move(impostor)) {
        BF_CHECK_DATA(!genuine_.empty() && !impostor_.empty(), "roc", "want pairs of both kinds; got ", genuine_.size(),
                      " same, ", impostor_.size(), " different");
        for (auto* scores : {&genuine_, &impostor_}) {
            for (const double s : *scores) BF_CHECK(std::isfinite(s), "roc", "a score is not finite");
            sort_descending(*scores);
        }
    }
    ScoreRoc(std::span<const double> scores, std::span<const std::uint8_t> same)
        : ScoreRoc(pick(scores, same, 1), pick(scores, same, 0)) {}

    /// From large to small.
    std::span<const double> genuine() const { return genuine_; }
    std::span<const double> impostor() const { return impostor_; }

    /// Largest TAR with FAR <= far.
    OperatingPoint strict(double far) const { return strict_point(genuine_, impostor_, impostor_.size(), far); }

    /// InsightFace's choice for each of `fars`: of the points that scikit-learn's roc_curve keeps (a point on a
    /// straight line between its neighbours is dropped), the one whose FAR is nearest, which may exceed the wanted one;
    /// among equally near ones the most lax.
    std::vector<OperatingPoint> nearest(std::span<const double> fars) const {
        std::vector<OperatingPoint> best(fars.size(), {0, 0, HUGE_VAL});  // the curve starts at (0, 0)
        const auto p = static_cast<double>(genuine_.size()), n = static_cast<double>(impostor_.size());
        const auto offer = [&](const Step& s) {
            const double far = static_cast<double>(s.fp) / n;
            for (std::size_t i = 0; i < fars.size(); ++i)
                if (std::abs(far - fars[i]) <= std::abs(best[i].far - fars[i]))
                    best[i] = {far, static_cast<double>(s.tp) / p, s.threshold};
        };
        Step before{}, here{};
        int seen = 0;
        walk([&](const Step& next) {
            if (seen == 1 ||
                (seen > 1 && (next.fp - here.fp != here.fp - before.fp || next.tp - here.tp != here.tp - before.tp)))
                offer(here);
            before = here;
            here = next;
            seen = std::min(2, seen + 1);
        });
        offer(here);
        return best;
    }
    /// Area under the curve by trapezoids; equal scores count one half.
    double auc() const {
        double twice = 0;
        Step before{};
        walk([&](const Step& s) {
            twice += static_cast<double>(s.fp - before.fp) * static_cast<double>(s.tp + before.tp);
            before = s;
        });
        return twice / 2 / static_cast<double>(genuine_.size()) / static_cast<double>(impostor_.size());
    }
    /// Rate at which false accepts equal false rejects, linear between points.
    double eer() const {
        const auto p = static_cast<double>(genuine_.size()), n = static_cast<double>(impostor_.size());
        double far0 = 0, tar0 = 0, found = -1;
        walk([&](const Step& s) {
            const double far = static_cast<double>(s.fp) / n, tar = static_cast<double>(s.tp) / p;
            if (found < 0 && far >= 1 - tar) {
                const double low = far0 - (1 - tar0), high = far - (1 - tar);
                found = far0 + (high == low ? 0 : -low / (high - low)) * (far - far0);
            }
            far0 = far, tar0 = tar;
        });
        return found;
    }
    /// About `count` strict points for drawing, even in log FAR from one accepted impostor to all.
    std::vector<std::pair<double, double>> drawn(std::size_t count) const {
        std::vector<std::pair<double, double>> out;
        const double lowest = 1 / static_cast<double>(impostor_.size());
        for (std::size_t i = 0; i < count; ++i) {
            const double far = lowest * std::pow(1 / lowest, static_cast<double>(i) / static_cast<double>(count - 1));
            out.emplace_back(std::min(1.0, far), strict(std::min(1.0, far * (1 + 1e-12))).tar);
        }
        return out;
    }

  private:
    /// What is accepted at a threshold.
    struct Step {
        std::int64_t fp = 0, tp = 0;
        double threshold = HUGE_VAL;
    };
    static std::vector<double> pick(std::span<const double> scores, std::span<const std::uint8_t> same, int kind) {
        BF_CHECK(scores.size() == same.size(), "roc", "counts differ; got ", scores.size(), " scores, ", same.size(),
                 " labels");
        std::vector<double> out;
        out.reserve(static_cast<std::size_t>(
            std::count_if(same.begin(), same.end(), [&](std::uint8_t s) { return (s != 0) == (kind != 0); })));
        for (std::size_t i = 0; i < scores.size(); ++i)
            if ((same[i] != 0) == (kind != 0)) out.push_back(scores[i]);
        return out;
    }
    /// Calls visit(step) for each distinct score from strict to lax.
    template <class Visit>
    void walk(Visit&& visit) const {
        for (std::size_t g = 0, i = 0; g < genuine_.size() || i < impostor_.size();) {
            const double t = i == impostor_.size()  ? genuine_[g]
                             : g == genuine_.size() ? impostor_[i]
                                                    : std::max(genuine_[g], impostor_[i]);
            while (g < genuine_.size() && genuine_[g] == t) ++g;
            while (i < impostor_.size() && impostor_[i] == t) ++i;
            visit(Step{static_cast<std::int64_t>(i), static_cast<std::int64_t>(g), t});
        }
    }
    std::vector<double> genuine_, impostor_;
};

}  // namespace bf
