#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "bf/core/tensor.hpp"

namespace bf {

/// Sum of the raw embeddings of the images and of their mirror images [n, D] (InsightFace's flip rule).
inline Tensor flip_sum(const Tensor& a, const Tensor& b) {
    BF_CHECK(a.shape() == b.shape() && a.dtype() == DType::f32 && b.dtype() == DType::f32, "flip_sum",
             "embeddings differ; got ", a.str(), " and ", b.str());
    Tensor sum = a.clone();
    for (std::int64_t i = 0; i < sum.numel(); ++i) sum.data<float>()[i] += b.data<float>()[i];
    return sum;
}

/// Squared Euclidean distance (0..4) of the L2-normalised embeddings of each pair: 2 - 2 cos. embeddings [n, D] f32.
inline std::vector<double> pair_distances(const Tensor& embeddings,
                                          std::span<const std::pair<std::int64_t, std::int64_t>> pairs) {
    BF_CHECK(embeddings.rank() == 2 && embeddings.dtype() == DType::f32, "pair_distances", "embeddings; got ",
             embeddings.str(), ", want [n, D] f32");
    const std::int64_t n = embeddings.dim(0), dim = embeddings.dim(1);
    std::vector<double> norms(static_cast<std::size_t>(n)), distances;
    const float* e = embeddings.data<float>();
    const auto dot = [&](std::int64_t a, std::int64_t b) {
        double sum = 0;
        for (std::int64_t d = 0; d < dim; ++d)
            sum += static_cast<double>(e[a * dim + d]) * static_cast<double>(e[b * dim + d]);
        return sum;
    };
    for (std::int64_t i = 0; i < n; ++i) {
        const double norm = std::sqrt(dot(i, i));
        if (!std::isfinite(norm))
            fail(ErrorCode::diverged, "pair_distances", "embedding of row ", i, " is not finite; got norm ", norm,
                 "; hint: the network diverged");
        norms[static_cast<std::size_t>(i)] = std::max(1e-12, norm);
    }
    for (const auto& [a, b] : pairs) {
        BF_CHECK(a >= 0 && a < n && b >= 0 && b < n, "pair_distances", "pair names image ", std::max(a, b), " of ", n);
        distances.push_back(std::max(
            0.0, 2 - 2 * dot(a, b) / (norms[static_cast<std::size_t>(a)] * norms[static_cast<std::size_t>(b)])));
    }
    return distances;
}

/// Mean of the rows [begin[i], begin[i + 1]) of raw embeddings, for each i: of a video's frames, say.
inline Tensor mean_rows(const Tensor& embeddings, std::span<const std::int64_t> begin) {
    BF_CHECK(embeddings.rank() == 2 && embeddings.dtype() == DType::f32 && begin.size() >= 2 &&
                 begin.back() <= embeddings.dim(0),
             "mean_rows", "embeddings; got ", embeddings.str(), " for groups up to row ",
             begin.empty() ? 0 : begin.back());
    const std::int64_t dim = embeddings.dim(1), groups = static_cast<std::int64_t>(begin.size()) - 1;
    Tensor out = Tensor::empty({groups, dim});
    std::vector<double> sum(static_cast<std::size_t>(dim));
    for (std::int64_t g = 0; g < groups; ++g) {
        const std::int64_t first = begin[static_cast<std::size_t>(g)], last = begin[static_cast<std::size_t>(g + 1)];
        BF_CHECK(first >= 0 && first < last, "mean_rows", "group ", g, " is empty");
        std::fill(sum.begin(), sum.end(), 0.0);
        for (std::int64_t i = first; i < last; ++i)
            for (std::int64_t d = 0; d < dim; ++d)
                sum[static_cast<std::size_t>(d)] += static_cast<double>(embeddings.data<float>()[i * dim + d]);
        for (std::int64_t d = 0; d < dim; ++d)
            out.data<float>()[g * dim + d] =
                static_cast<float>(sum[static_cast<std::size_t>(d)] / static_cast<double>(last - first));
    }
    return out;
}

/// Mean L2 norm of raw embeddings [n, D] f32 (InsightFace's XNorm for one pass).
inline double mean_norm(const Tensor& embeddings) {
    double sum = 0;
    const std::int64_t dim = embeddings.dim(1);
    for (std::int64_t i = 0; i < embeddings.dim(0); ++i) {
        double squares = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
            const double v = static_cast<double>(embeddings.data<float>()[i * dim + d]);
            squares += v * v;
        }
        sum += std::sqrt(squares);
    }
    return sum / static_cast<double>(std::max<std::int64_t>(1, embeddings.dim(0)));
}

/// Accuracy of telling same from different, fold by fold.
struct VerificationResult {
    double mean = 0;            ///< over folds
    double std = 0;             ///< over folds, population (ddof 0), as InsightFace prints it
    double standard_error = 0;  ///< ddof 1 / sqrt(folds), as LFW View 2 asks
    double threshold = 0;       ///< mean of the folds' thresholds (squared distance)
    std::vector<double> accuracy, thresholds;
};

namespace detail {
/// Mean, spread and threshold from the folds.
inline void summarise(VerificationResult& r) {
    const double k = static_cast<double>(r.accuracy.size());
    r.mean = std::accumulate(r.accuracy.begin(), r.accuracy.end(), 0.0) / k;
    r.threshold = std::accumulate(r.thresholds.begin(), r.thresholds.end(), 0.0) / k;
    double squares = 0;
    for (const double a : r.accuracy) squares += (a - r.mean) * (a - r.mean);
    r.std = std::sqrt(squares / k);
    r.standard_error = std::sqrt(squares / (k - 1) / k);
}
}  // namespace detail

/// Accuracy of each fold at the threshold that is best on the other folds: candidates 0, 0.01, .., 3.99, same if
/// distance < threshold (strict), the first of equals. fold[i] in 0..folds-1. Source: InsightFace eval/verification.py.
inline VerificationResult verify_explicit_folds(std::span<const double> distances, std::span<const char> same,
                                                std::span<const int> fold, int folds) {
    const std::size_t n = distances.size();
    BF_CHECK(n == same.size() && n == fold.size() && n > 0, "verify", "counts differ; got ", n, " distances, ",
             same.size(), " labels, ", fold.size(), " folds");
    BF_CHECK(folds >= 2, "verify", "folds; got ", folds, ", want 2 or more");
    constexpr int candidates = 400;
    // correct[f][t]: right answers of fold f at threshold t, from the first threshold that accepts each pair
    std::vector<std::vector<std::int64_t>> correct(static_cast<std::size_t>(folds),
                                                   std::vector<std::int64_t>(candidates, 0));
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(folds), 0);
    for (std::size_t i = 0; i < n; ++i) {
        BF_CHECK(fold[i] >= 0 && fold[i] < folds, "verify", "fold of pair ", i, "; got ", fold[i], ", want 0..",
                 folds - 1);
        auto& row = correct[static_cast<std::size_t>(fold[i])];
        ++sizes[static_cast<std::size_t>(fold[i])];
        int first = std::clamp(static_cast<int>(distances[i] * 100) - 1, 0, candidates);
        while (first < candidates && !(distances[i] < first * 0.01)) ++first;
        for (int t = 0; t < candidates; ++t) row[static_cast<std::size_t>(t)] += (t >= first) == (same[i] != 0);
    }
    VerificationResult r;
    for (std::size_t f = 0; f < static_cast<std::size_t>(folds); ++f) {
        BF_CHECK(sizes[f] > 0, "verify", "fold ", f, " has no pairs");
        std::size_t best = 0;
        std::int64_t best_correct = -1;
        for (std::size_t t = 0; t < candidates; ++t) {
            std::int64_t others = 0;
            for (std::size_t g = 0; g < correct.size(); ++g)
                if (g != f) others += correct[g][t];
            if (others > best_correct) {
                best_correct = others;
                best = t;
            }
        }
        r.accuracy.push_back(static_cast<double>(correct[f][best]) / static_cast<double>(sizes[f]));
        r.thresholds.push_back(0.01 * static_cast<double>(best));
    }
    detail::summarise(r);
    return r;
}

/// Folds of contiguous pairs as scikit-learn's KFold cuts them: the first n % folds have one more.
inline std::vector<int> contiguous_folds(std::size_t n, int folds) {
    std::vector<int> fold;
    for (int f = 0; f < folds; ++f)
        fold.insert(
            fold.end(),
            n / static_cast<std::size_t>(folds) + (static_cast<std::size_t>(f) < n % static_cast<std::size_t>(folds)),
            f);
    return fold;
}

/// TAR at a false accept rate, fold by fold.
struct FoldTar {
    double mean = 0, std = 0;  ///< TAR over folds, population (ddof 0)
    double far = 0;            ///< mean FAR that the folds really had
    std::vector<double> tar, thresholds;
};

/// TAR of each fold at the threshold where the other folds have FAR `far`: candidates 0, 0.001, .., 3.999, linear
/// between the last candidates of neighbouring FARs, 0 (nothing is accepted) if that FAR is never reached. Source:
/// InsightFace eval/verification.py, calculate_val, whose interpolation leaves open which of equal FARs counts.
inline FoldTar tar_explicit_folds(std::span<const double> distances, std::span<const char> same,
                                  std::span<const int> fold, int folds, double far = 1e-3) {
    const std::size_t n = distances.size(), k = static_cast<std::size_t>(folds);
    BF_CHECK(n == same.size() && n == fold.size() && n > 0 && folds >= 2, "tar", "counts differ; got ", n,
             " distances, ", same.size(), " labels, ", fold.size(), " folds in ", folds);
    constexpr std::size_t candidates = 4000;
    const auto threshold = [](std::size_t t) { return 0.001 * static_cast<double>(t); };
    // accepted[f][t]: different pairs of fold f that threshold t accepts
    std::vector<std::vector<double>> accepted(k, std::vector<double>(candidates, 0));
    std::vector<double> different(k, 0);
    for (std::size_t i = 0; i < n; ++i) {
        if (same[i]) continue;
        BF_CHECK(fold[i] >= 0 && fold[i] < folds, "tar", "fold of pair ", i, "; got ", fold[i]);
        const auto f = static_cast<std::size_t>(fold[i]);
        ++different[f];
        auto first = static_cast<std::size_t>(std::clamp(distances[i] * 1000 - 1, 0.0, 1.0 * candidates));
        while (first < candidates && !(distances[i] < threshold(first))) ++first;
        if (first < candidates) ++accepted[f][first];
    }
    for (auto& row : accepted) std::partial_sum(row.begin(), row.end(), row.begin());
    const double all_different = std::accumulate(different.begin(), different.end(), 0.0);
    FoldTar r;
    for (std::size_t f = 0; f < k; ++f) {
        // (FAR of the other folds, threshold), each FAR once with its last threshold
        std::vector<std::pair<double, double>> curve;
        for (std::size_t t = 0; t < candidates; ++t) {
            double count = -accepted[f][t];
            for (const auto& row : accepted) count += row[t];
            const double rate = count / std::max(1.0, all_different - different[f]);
            if (!curve.empty() && curve.back().first == rate) curve.pop_back();
            curve.emplace_back(rate, threshold(t));
        }
        double chosen = 0;
        if (curve.back().first >= far) {
            const auto right =
                std::find_if(curve.begin(), curve.end(), [far](const auto& p) { return p.first >= far; });
            chosen = right->second;
            if (right != curve.begin() && right->first > far) {
                const auto left = right - 1;
                chosen = left->second + (far - left->first) / (right->first - left->first) * (chosen - left->second);
            }
        }
        double genuine = 0, genuine_accepted = 0, impostor_accepted = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (fold[i] != static_cast<int>(f)) continue;
            genuine += same[i] != 0;
            if (distances[i] < chosen) (same[i] ? genuine_accepted : impostor_accepted) += 1;
        }
        r.tar.push_back(genuine_accepted / std::max(1.0, genuine));
        r.thresholds.push_back(chosen);
        r.far += impostor_accepted / std::max(1.0, different[f]) / folds;
    }
    r.mean = std::accumulate(r.tar.begin(), r.tar.end(), 0.0) / folds;
    for (const double t : r.tar) r.std += (t - r.mean) * (t - r.mean) / folds;
    r.std = std::sqrt(r.std);
    return r;
}

/// Accuracy of each fold by the rule of FaceX-Zoo: of 1,000 thresholds that cut the range of the other folds' scores
/// evenly (the least score left out), the first with the largest TPR - FPR; a score equal to it counts as wrong for
/// both kinds. scores: higher is more alike. Source: FaceX-Zoo test_protocol/lfw/lfw_evaluator.py.
inline VerificationResult verify_tpr_fpr_folds(std::span<const double> scores, std::span<const char> same,
                                               std::span<const int> fold, int folds) {
    const std::size_t n = scores.size();
    BF_CHECK(n == same.size() && n == fold.size() && n > 0 && folds >= 2, "verify", "counts differ; got ", n,
             " scores, ", same.size(), " labels, ", fold.size(), " folds in ", folds);
    constexpr int candidates = 1000;
    VerificationResult r;
    for (int f = 0; f < folds; ++f) {
        std::vector<double> kinds[2];  // scores of the other folds: different, same
        for (std::size_t i = 0; i < n; ++i)
            if (fold[i] != f) kinds[same[i] != 0].push_back(scores[i]);
        BF_CHECK(!kinds[0].empty() && !kinds[1].empty(), "verify", "fold ", f, ": the others want pairs of both kinds");
        for (auto& k : kinds) std::sort(k.begin(), k.end());
        const double least = std::min(kinds[0].front(), kinds[1].front()),
                     step = (std::max(kinds[0].back(), kinds[1].back()) - least) / candidates;
        const auto rate = [](const std::vector<double>& sorted, double t) {
            return static_cast<double>(sorted.end() - std::upper_bound(sorted.begin(), sorted.end(), t)) /
                   static_cast<double>(sorted.size());
        };
        double best = -2, threshold = 0;
        for (int k = 1; k <= candidates; ++k) {
            const double t = least + step * k, gain = rate(kinds[1], t) - rate(kinds[0], t);
            if (gain > best) {
                best = gain;
                threshold = t;
            }
        }
        double right = 0, all = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (fold[i] != f) continue;
            ++all;
            right += same[i] ? scores[i] > threshold : scores[i] < threshold;
        }
        BF_CHECK(all > 0, "verify", "fold ", f, " has no pairs");
        r.accuracy.push_back(right / all);
        r.thresholds.push_back(threshold);
    }
    detail::summarise(r);
    return r;
}

/// verify_explicit_folds() with contiguous folds.
inline VerificationResult verify_folds(std::span<const double> distances, std::span<const char> same, int folds = 10) {
    return verify_explicit_folds(distances, same, contiguous_folds(distances.size(), folds), folds);
}

}  // namespace bf
