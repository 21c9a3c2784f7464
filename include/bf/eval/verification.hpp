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
    for (std::int64_t i = 0; i < n; ++i) norms[static_cast<std::size_t>(i)] = std::max(1e-12, std::sqrt(dot(i, i)));
    for (const auto& [a, b] : pairs) {
        BF_CHECK(a >= 0 && a < n && b >= 0 && b < n, "pair_distances", "pair names image ", std::max(a, b), " of ", n);
        distances.push_back(std::max(
            0.0, 2 - 2 * dot(a, b) / (norms[static_cast<std::size_t>(a)] * norms[static_cast<std::size_t>(b)])));
    }
    return distances;
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
    const double k = folds;
    r.mean = std::accumulate(r.accuracy.begin(), r.accuracy.end(), 0.0) / k;
    r.threshold = std::accumulate(r.thresholds.begin(), r.thresholds.end(), 0.0) / k;
    double squares = 0;
    for (const double a : r.accuracy) squares += (a - r.mean) * (a - r.mean);
    r.std = std::sqrt(squares / k);
    r.standard_error = std::sqrt(squares / (k - 1) / k);
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

/// The same with contiguous folds.
inline VerificationResult verify_folds(std::span<const double> distances, std::span<const char> same, int folds = 10) {
    return verify_explicit_folds(distances, same, contiguous_folds(distances.size(), folds), folds);
}

}  // namespace bf
