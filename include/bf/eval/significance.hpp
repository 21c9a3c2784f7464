#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "bf/eval/bootstrap.hpp"

namespace bf {

/// McNemar's exact test of two classifiers on the same items.
struct McNemar {
    std::int64_t only_first = 0, only_second = 0;  ///< items that one alone gets right
    double p = 1;  ///< two-sided: of a split at least as uneven if each had the same chance of such an item
};

/// Two-sided exact binomial probability of at most min(b, c) of b + c heads of a fair coin, doubled, at most 1.
inline double mcnemar_p(std::int64_t b, std::int64_t c) {
    const std::int64_t n = b + c, k = std::min(b, c);
    if (n == 0 || b == c) return 1;
    // the largest term by its logarithm, the others by their ratio; long double keeps 12 digits at a million items
    const auto log_factorial = [](std::int64_t x) { return std::lgamma(static_cast<long double>(x) + 1); };
    long double term = 1, sum = 1;
    for (std::int64_t i = k; i > 0 && term > sum * 1e-22L; --i) {
        term *= static_cast<long double>(i) / static_cast<long double>(n - i + 1);
        sum += term;
    }
    const long double top =
        log_factorial(n) - log_factorial(k) - log_factorial(n - k) - static_cast<long double>(n) * std::log(2.0L);
    return static_cast<double>(std::min(1.0L, 2 * std::exp(top) * sum));
}

/// right_first[i], right_second[i] != 0: item i is right.
inline McNemar mcnemar(std::span<const char> right_first, std::span<const char> right_second) {
    BF_CHECK(right_first.size() == right_second.size(), "mcnemar", "counts differ; got ", right_first.size(), " and ",
             right_second.size());
    McNemar m;
    for (std::size_t i = 0; i < right_first.size(); ++i) {
        m.only_first += right_first[i] && !right_second[i];
        m.only_second += !right_first[i] && right_second[i];
    }
    m.p = mcnemar_p(m.only_first, m.only_second);
    return m;
}

/// Two-sided p of the mean of paired differences by exchanging the two models' values of each item at random: the
/// share of `rounds` exchanges (with the one observed) whose mean is at least as far from 0. Differences that are not
/// numbers are left out.
inline double permutation_p(std::span<const double> differences, int rounds = 9999, std::uint64_t seed = 1) {
    BF_CHECK(rounds >= 1, "permutation", "rounds; got ", rounds, ", want 1 or more");
    std::vector<double> d;
    double observed = 0, scale = 0;
    for (const double x : differences)
        if (std::isfinite(x) && x != 0) {
            d.push_back(x);
            observed += x;
            scale += std::abs(x);
        }
    // sums that are equal but for rounding count as equal
    const double limit = std::abs(observed) - 1e-12 * scale;
    std::vector<char> as_far(static_cast<std::size_t>(rounds));
    parallel_for(rounds, 64, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            Rng rng(seed, Stream::resample, static_cast<std::uint64_t>(r), 1);
            double sum = 0;
            std::uint32_t bits = 0;
            for (std::size_t i = 0; i < d.size(); ++i) {
                if (i % 32 == 0) bits = rng.bits();
                sum += (bits >> (i % 32)) & 1 ? d[i] : -d[i];
            }
            as_far[static_cast<std::size_t>(r)] = std::abs(sum) >= limit;
        }
    });
    const auto count = std::count(as_far.begin(), as_far.end(), 1);
    return static_cast<double>(count + 1) / static_cast<double>(rounds + 1);
}

/// Two-sided p of a difference from its bootstrap rounds: twice the smaller share on either side of 0 (values of 0
/// count on both), at least 2 / (rounds + 1), at most 1.
inline double bootstrap_p(std::span<const double> rounds, std::size_t count, std::size_t k) {
    std::int64_t below = 0, above = 0, all = 0;
    for (std::size_t i = k; i < rounds.size(); i += count)
        if (std::isfinite(rounds[i])) {
            ++all;
            below += rounds[i] <= 0;
            above += rounds[i] >= 0;
        }
    return std::min(1.0, 2 * static_cast<double>(std::min(below, above) + 1) / static_cast<double>(all + 1));
}

}  // namespace bf
