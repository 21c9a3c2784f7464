#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/base/random.hpp"
#include "bf/core/parallel.hpp"

namespace bf {

/// A central confidence interval; not a number where none could be taken.
struct Interval {
    double low, high;
};

struct BootstrapOptions {
    double confidence = 0.95;
    int rounds = 2000;
    std::uint64_t seed = 1;
};

/// Which items stay together when they are drawn anew, with replacement: draw() gives how often each is in the sample
/// of one round, a pure function of (seed, round).
class Resampling {
  public:
    /// Each of n items alone.
    static Resampling items(std::size_t n) { return Resampling(n, n, {}); }
    /// Clusters, such as all queries of a class: the clusters are drawn, and their items with them. cluster[i] >= 0.
    static Resampling clusters(std::span<const std::int64_t> cluster) {
        std::vector<std::pair<std::int64_t, std::int64_t>> both;
        for (const std::int64_t c : cluster) both.emplace_back(c, c);
        return subject_pairs(std::move(both));
    }
    /// Pairs of subjects: the subjects are drawn; a pair of two is in the sample as often as the product of their
    /// numbers, a pair of one as often as that one (the pigeonhole bootstrap; Owen 2007, Annals of Applied Statistics
    /// 1(2)). Pairs that share a person are dependent, so this is wider than drawing pairs.
    static Resampling subject_pairs(std::vector<std::pair<std::int64_t, std::int64_t>> subjects) {
        std::int64_t most = -1;
        for (const auto& [a, b] : subjects) {
            BF_CHECK(a >= 0 && b >= 0, "bootstrap", "subject; got ", std::min(a, b), ", want 0 or more");
            most = std::max({most, a, b});
        }
        const std::size_t n = subjects.size();
        return Resampling(n, static_cast<std::size_t>(most + 1), std::move(subjects));
    }
    std::size_t size() const { return size_; }
    /// Number of things that are drawn: items, clusters or subjects.
    std::size_t units() const { return units_; }

    /// How often each item is in the sample of a round; weights [size()].
    void draw(std::uint64_t seed, std::uint64_t round, std::span<std::uint32_t> weights) const {
        Rng rng(seed, Stream::resample, round);
        std::vector<std::uint32_t> own(subjects_.empty() ? 0 : units_);
        const std::span<std::uint32_t> times = subjects_.empty() ? weights : std::span(own);
        std::fill(times.begin(), times.end(), 0u);
        for (std::size_t i = 0; i < units_; ++i) ++times[static_cast<std::size_t>(rng.below(units_))];
        for (std::size_t i = 0; i < subjects_.size(); ++i) {
            const auto [a, b] = subjects_[i];
            weights[i] = times[static_cast<std::size_t>(a)] * (a == b ? 1 : times[static_cast<std::size_t>(b)]);
        }
    }

  private:
    Resampling(std::size_t size, std::size_t units, std::vector<std::pair<std::int64_t, std::int64_t>> subjects)
        : size_(size), units_(units), subjects_(std::move(subjects)) {
        BF_CHECK(size_ > 0 && units_ < (std::size_t{1} << 32), "bootstrap", "want items to draw from");
    }
    std::size_t size_, units_;
    std::vector<std::pair<std::int64_t, std::int64_t>> subjects_;
};

/// Quantile q of sorted values, linear between neighbours (NumPy's default).
inline double quantile(std::span<const double> sorted, double q) {
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto left = std::min(static_cast<std::size_t>(at), sorted.size() - 1);
    const auto right = std::min(left + 1, sorted.size() - 1);
    return sorted[left] + (at - static_cast<double>(left)) * (sorted[right] - sorted[left]);
}

/// `count` statistics of each round [rounds * count]: statistic(weights, out) writes them for the items weighted as
/// drawn. Rounds run on the CPU pool; the bits do not depend on its threads.
template <class Statistic>
std::vector<double> bootstrap_rounds(const Resampling& resampling, std::size_t count, Statistic&& statistic,
                                     const BootstrapOptions& options = {}) {
    BF_CHECK(options.rounds >= 1 && options.confidence > 0 && options.confidence < 1, "bootstrap",
             "want 1 round or more and 0 < confidence < 1; got ", options.rounds, ", ", options.confidence);
    std::vector<double> all(static_cast<std::size_t>(options.rounds) * count);
    parallel_for(options.rounds, 16, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::uint32_t> weights(resampling.size());
        for (std::int64_t r = begin; r < end; ++r) {
            resampling.draw(options.seed, static_cast<std::uint64_t>(r), weights);
            statistic(std::span<const std::uint32_t>(weights),
                      std::span(all).subspan(static_cast<std::size_t>(r) * count, count));
        }
    });
    return all;
}

/// Percentile interval of statistic k of `rounds` (as bootstrap_rounds() gives them); rounds in which it is not a
/// number are left out, and there is no interval if they are half or more.
inline Interval percentile_interval(std::span<const double> rounds, std::size_t count, std::size_t k,
                                    double confidence = 0.95) {
    std::vector<double> values;
    for (std::size_t i = k; i < rounds.size(); i += count)
        if (std::isfinite(rounds[i])) values.push_back(rounds[i]);
    if (2 * values.size() <= rounds.size() / count)
        return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
    std::sort(values.begin(), values.end());
    return {quantile(values, (1 - confidence) / 2), quantile(values, (1 + confidence) / 2)};
}

/// Percentile bootstrap intervals of `count` statistics.
template <class Statistic>
std::vector<Interval> bootstrap(const Resampling& resampling, std::size_t count, Statistic&& statistic,
                                const BootstrapOptions& options = {}) {
    const std::vector<double> rounds = bootstrap_rounds(resampling, count, statistic, options);
    std::vector<Interval> out;
    for (std::size_t k = 0; k < count; ++k) out.push_back(percentile_interval(rounds, count, k, options.confidence));
    return out;
}

/// Mean of values by weight; not a number if nothing was drawn. Values that are not numbers are left out.
inline double weighted_mean(std::span<const double> values, std::span<const std::uint32_t> weights) {
    double sum = 0, total = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (weights[i] == 0 || !std::isfinite(values[i])) continue;
        sum += weights[i] * values[i];
        total += weights[i];
    }
    return sum / total;
}

/// Interval of the mean of `values`, each drawn alone.
inline Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options = {}) {
    return bootstrap(
        Resampling::items(values.size()), 1,
        [values](auto weights, auto out) { out[0] = weighted_mean(values, weights); }, options)[0];
}

}  // namespace bf
