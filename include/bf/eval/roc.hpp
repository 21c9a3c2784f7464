#pragma once
#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// One operating point: pairs with score >= threshold are accepted.
struct RocPoint {
    double far, tar, threshold;
};

/// The receiver operating characteristic of scores (higher is more alike), one point a distinct score from strict to
/// lax, the first at (0, 0). Equal scores are accepted together.
class Roc {
  public:
    Roc(std::span<const double> scores, std::span<const char> same) {
        BF_CHECK(scores.size() == same.size(), "roc", "counts differ; got ", scores.size(), " scores, ", same.size(),
                 " labels");
        std::vector<std::pair<double, char>> sorted;
        for (std::size_t i = 0; i < scores.size(); ++i) {
            BF_CHECK(std::isfinite(scores[i]), "roc", "score ", i, " is not finite");
            sorted.emplace_back(scores[i], same[i]);
            (same[i] ? genuine_ : impostor_) += 1;
        }
        BF_CHECK(genuine_ > 0 && impostor_ > 0, "roc", "want pairs of both kinds; got ", genuine_, " same, ", impostor_,
                 " different");
        std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
        points_.push_back({0, 0, HUGE_VAL});
        double accepted_genuine = 0, accepted_impostor = 0;
        for (std::size_t i = 0; i < sorted.size(); ++i) {
            (sorted[i].second ? accepted_genuine : accepted_impostor) += 1;
            if (i + 1 < sorted.size() && sorted[i + 1].first == sorted[i].first) continue;
            points_.push_back({accepted_impostor / impostor_, accepted_genuine / genuine_, sorted[i].first});
        }
    }
    const std::vector<RocPoint>& points() const { return points_; }

    /// Largest TAR among points whose FAR does not exceed `far` (strict).
    double tar_at(double far) const {
        double best = 0;
        for (const RocPoint& p : points_)
            if (p.far <= far) best = std::max(best, p.tar);
        return best;
    }
    /// TAR at the point whose FAR is nearest to `far`, which may exceed it; among equals the most lax of the nearest
    /// FAR (InsightFace reverses scikit-learn's curve and takes the first minimum).
    double tar_nearest(double far) const {
        const RocPoint* best = &points_.back();
        for (auto p = points_.rbegin(); p != points_.rend(); ++p)
            if (std::abs(p->far - far) < std::abs(best->far - far)) best = &*p;
        return best->tar;
    }
    /// Area under the curve by trapezoids.
    double auc() const {
        double area = 0;
        for (std::size_t i = 1; i < points_.size(); ++i)
            area += (points_[i].far - points_[i - 1].far) * (points_[i].tar + points_[i - 1].tar) / 2;
        return area;
    }
    /// Rate at which false accepts equal false rejects, linear between points.
    double eer() const {
        for (std::size_t i = 1; i < points_.size(); ++i) {
            const double before = points_[i - 1].far - (1 - points_[i - 1].tar),
                         after = points_[i].far - (1 - points_[i].tar);
            if (after < 0) continue;
            const double t = after == before ? 0 : -before / (after - before);
            return points_[i - 1].far + t * (points_[i].far - points_[i - 1].far);
        }
        return 1;
    }
    /// About `count` points for drawing, even in log FAR; first and last are kept.
    std::vector<std::pair<double, double>> thinned(std::size_t count) const {
        std::vector<std::pair<double, double>> out;
        const double lowest = 1 / impostor_;
        for (std::size_t i = 0; i < count; ++i) {
            const double far = lowest * std::pow(1 / lowest, static_cast<double>(i) / static_cast<double>(count - 1));
            out.emplace_back(far, tar_at(far * (1 + 1e-12)));
        }
        return out;
    }

  private:
    std::vector<RocPoint> points_;
    double genuine_ = 0, impostor_ = 0;
};

}  // namespace bf
