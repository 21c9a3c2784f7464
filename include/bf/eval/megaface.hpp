#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/eval/score_roc.hpp"
#include "bf/eval/search.hpp"

namespace bf {

/// Replaces the vectors of noisy probes by InsightFace's rule: the mean of the clean unit vectors of the same person,
/// plus U(-0.001, 0.001) in each dimension, scaled to length 1. Draws are a function of (seed, row). All rows of
/// `probes` [P, D] f32 are scaled to length 1. A person without a clean image is a data Error.
inline void replace_noisy_probes(const Tensor& probes, std::span<const std::int64_t> person,
                                 std::span<const char> noisy, std::uint64_t seed = 1) {
    const std::int64_t n = probes.dim(0), dim = probes.dim(1);
    BF_CHECK(static_cast<std::int64_t>(person.size()) == n && static_cast<std::int64_t>(noisy.size()) == n,
             "replace_noisy_probes", "counts differ; got ", probes.str(), ", ", person.size(), " people, ",
             noisy.size(), " flags");
    const auto to_unit = [&](float* v) {
        double squares = 0;
        for (std::int64_t d = 0; d < dim; ++d) squares += static_cast<double>(v[d]) * static_cast<double>(v[d]);
        const double scale = 1 / std::max(1e-12, std::sqrt(squares));
        for (std::int64_t d = 0; d < dim; ++d) v[d] = static_cast<float>(static_cast<double>(v[d]) * scale);
    };
    float* rows = probes.data<float>();
    std::map<std::int64_t, std::pair<std::int64_t, std::vector<double>>> clean;  // person: images, sum
    for (std::int64_t i = 0; i < n; ++i) {
        to_unit(rows + i * dim);
        if (noisy[static_cast<std::size_t>(i)]) continue;
        auto& [count, sum] = clean[person[static_cast<std::size_t>(i)]];
        sum.resize(static_cast<std::size_t>(dim));
        ++count;
        for (std::int64_t d = 0; d < dim; ++d)
            sum[static_cast<std::size_t>(d)] += static_cast<double>(rows[i * dim + d]);
    }
    for (std::int64_t i = 0; i < n; ++i) {
        if (!noisy[static_cast<std::size_t>(i)]) continue;
        const auto of = clean.find(person[static_cast<std::size_t>(i)]);
        BF_CHECK_DATA(of != clean.end(), "noisy probes", "person of probe ", i, " has noisy images alone");
        Rng rng(seed, Stream::test, 29, static_cast<std::uint64_t>(i));
        for (std::int64_t d = 0; d < dim; ++d)
            rows[i * dim + d] = static_cast<float>(of->second.second[static_cast<std::size_t>(d)] /
                                                       static_cast<double>(of->second.first) +
                                                   static_cast<double>(rng.uniform(-0.001f, 0.001f)));
        to_unit(rows + i * dim);
    }
}

/// What is kept of the scores of probes [P, D] against distractors that come in blocks: for each probe the `ranks`
/// best, and the `impostors` largest of all. So a million distractors need neither be in memory together nor be sorted.
class DistractorScores {
  public:
    DistractorScores(Tensor probes, std::int64_t ranks, std::uint64_t impostors)
        : probes_(std::move(probes)), ranks_(static_cast<std::size_t>(ranks)), impostors_(impostors) {
        BF_CHECK(probes_.rank() == 2 && probes_.dim(0) > 0 && ranks >= 1, "megaface", "got probes ", probes_.str(),
                 ", ", ranks, " ranks");
    }

    /// Takes in a block [n, D] f32 by cosine. A noisy distractor is left out by its flag: InsightFace gives it an extra
    /// dimension of 100 (0 elsewhere), so that in distance it is farther than any clean one and never wins; it is
    /// counted as a pair that no threshold accepts. Nothing depends on how distractors are cut into blocks.
    void add(const Tensor& block, std::span<const char> noisy = {}) {
        BF_CHECK(noisy.empty() || static_cast<std::int64_t>(noisy.size()) == block.dim(0), "megaface", "flags; got ",
                 noisy.size(), ", want ", block.dim(0));
        const std::int64_t p = probes_.dim(0), slots = score_slots(p);
        // until the least impostor to keep is known, all are candidates: they are taken a few million at a time
        for (std::int64_t begin = 0, end = 0; begin < block.dim(0); begin = end) {
            const std::int64_t step = largest_.size() < impostors_ ? std::max<std::int64_t>(1, (1 << 22) / p) : 1 << 16;
            end = std::min(block.dim(0), begin + step);
            const float cut = largest_.size() < impostors_ ? -HUGE_VALF : least_;
            std::vector<std::vector<float>> best(static_cast<std::size_t>(slots * p)), over(best.size());
            for_each_score(probes_, block.rows(begin, end), {},
                           [&](std::int64_t slot, std::int64_t q, std::int64_t first, std::span<const float> scores) {
                               auto& heap = best[static_cast<std::size_t>(slot * p + q)];
                               auto& pool = over[static_cast<std::size_t>(slot * p + q)];
                               for (std::size_t i = 0; i < scores.size(); ++i) {
                                   const float s = scores[i];
                                   const auto row = static_cast<std::size_t>(begin + first) + i;
                                   if (!noisy.empty() && noisy[row]) continue;
                                   if (s > cut) pool.push_back(s);
                                   keep(heap, s);
                               }
                           });
            best_.resize(static_cast<std::size_t>(p));
            for (std::size_t i = 0; i < best.size(); ++i)
                for (const float s : best[i]) keep(best_[i % static_cast<std::size_t>(p)], s);
            for (const auto& pool : over) largest_.insert(largest_.end(), pool.begin(), pool.end());
            if (largest_.size() > impostors_) {
                const auto at = largest_.begin() + static_cast<std::ptrdiff_t>(impostors_);
                if (impostors_ > 0) {
                    std::nth_element(largest_.begin(), at - 1, largest_.end(), std::greater<>());
                    least_ = at[-1];
                } else {
                    least_ = HUGE_VALF;
                }
                largest_.erase(at, largest_.end());
            } else if (!largest_.empty() && largest_.size() == impostors_) {
                least_ = *std::min_element(largest_.begin(), largest_.end());
            }
        }
        distractors_ += static_cast<std::uint64_t>(block.dim(0));
    }
    std::uint64_t distractors() const { return distractors_; }
    /// Number of distractors among the best of probe q that score above s: where it is below `ranks`, the exact number.
    std::int64_t above(std::int64_t q, float s) const {
        const auto& heap = best_.at(static_cast<std::size_t>(q));
        return std::count_if(heap.begin(), heap.end(), [s](float d) { return d > s; });
    }
    std::int64_t ranks() const { return static_cast<std::int64_t>(ranks_); }
    /// The largest impostor scores, from large to small.
    std::vector<double> largest_impostors() const {
        std::vector<double> out(largest_.begin(), largest_.end());
        sort_descending(out);
        return out;
    }
    std::uint64_t impostors_kept() const { return impostors_; }
    const Tensor& probes() const { return probes_; }

  private:
    void keep(std::vector<float>& heap, float s) const {
        if (heap.size() < ranks_) {
            heap.push_back(s);
        } else {
            if (!(s > heap.front())) return;
            std::pop_heap(heap.begin(), heap.end(), std::greater<>());
            heap.back() = s;
        }
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
    Tensor probes_;
    std::size_t ranks_;
    std::uint64_t impostors_, distractors_ = 0;
    std::vector<std::vector<float>> best_;  // of each probe, a heap with the least on top
    std::vector<float> largest_;
    float least_ = -HUGE_VALF;
};

/// Result of MegaFace's two protocols.
struct MegaFaceResult {
    std::int64_t people = 0, trials = 0;       ///< trials: ordered pairs of photos of one person, sum of M (M - 1)
    std::vector<std::int64_t> hits;            ///< [k - 1]: trials whose mate stands at rank k or better
    std::uint64_t genuine = 0, impostors = 0;  ///< pairs of the verification
    std::vector<OperatingPoint> points;        ///< at each wanted FAR
};

/// How many impostor scores DistractorScores must keep for FARs up to `far` of `impostors` pairs.
inline std::uint64_t impostors_to_keep(std::uint64_t impostors, double far) {
    return std::min(impostors, static_cast<std::uint64_t>(std::ceil(far * static_cast<double>(impostors))) + 1);
}

/// Identification: of each person with M photos, each photo i in turn joins the distractors and every other photo j
/// probes; a hit at rank k if s(i, j) >= the k-th best distractor of j (equal scores count for the mate). Verification:
/// all unordered pairs of photos of one person against all pairs of probe and distractor; the largest TAR with
/// FAR <= far. `person` [P]: who stands on each probe.
inline MegaFaceResult megaface_result(const DistractorScores& scores, std::span<const std::int64_t> person,
                                      std::span<const double> fars) {
    const std::int64_t p = scores.probes().dim(0);
    BF_CHECK(static_cast<std::int64_t>(person.size()) == p, "megaface", "people; got ", person.size(), ", want ", p);
    std::map<std::int64_t, std::vector<std::int64_t>> photos;
    for (std::int64_t i = 0; i < p; ++i) photos[person[static_cast<std::size_t>(i)]].push_back(i);
    MegaFaceResult out;
    out.people = static_cast<std::int64_t>(photos.size());
    out.hits.assign(static_cast<std::size_t>(scores.ranks()), 0);
    std::vector<double> genuine;
    const std::int64_t dim = scores.probes().dim(1);
    for (const auto& [who, rows] : photos) {
        const auto m = static_cast<std::int64_t>(rows.size());
        if (m < 2) continue;
        const Tensor own = Tensor::empty({m, dim});
        for (std::int64_t i = 0; i < m; ++i)
            own.rows(i, i + 1).copy_from(
                scores.probes().rows(rows[static_cast<std::size_t>(i)], rows[static_cast<std::size_t>(i)] + 1));
        std::vector<float> s(static_cast<std::size_t>(m * m));  // each element is written once
        for_each_score(own, own, {},
                       [&](std::int64_t, std::int64_t q, std::int64_t first, std::span<const float> part) {
                           std::copy(part.begin(), part.end(), s.begin() + q * m + first);
                       });
        for (std::int64_t j = 0; j < m; ++j)
            for (std::int64_t i = 0; i < m; ++i) {
                if (i == j) continue;
                const float mate = s[static_cast<std::size_t>(j * m + i)];
                ++out.trials;
                if (i < j) genuine.push_back(static_cast<double>(mate));
                for (std::int64_t k = scores.above(rows[static_cast<std::size_t>(j)], mate); k < scores.ranks(); ++k)
                    ++out.hits[static_cast<std::size_t>(k)];
            }
    }
    BF_CHECK_DATA(out.trials > 0, "megaface", "no person has two photos among the ", p, " probes");
    sort_descending(genuine);
    out.genuine = genuine.size();
    out.impostors = scores.distractors() * static_cast<std::uint64_t>(p);
    std::vector<double> largest = scores.largest_impostors();
    // pairs with a noisy distractor: farther than any other
    largest.resize(static_cast<std::size_t>(std::min(out.impostors, scores.impostors_kept())), -HUGE_VAL);
    for (const double far : fars) out.points.push_back(strict_point(genuine, largest, out.impostors, far));
    return out;
}

}  // namespace bf
