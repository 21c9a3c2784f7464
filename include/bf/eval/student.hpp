#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "bf/base/error.hpp"

namespace bf {

namespace detail {
/// Regularised incomplete beta function I_x(a, b), for x at most (a + 1) / (a + b + 2), by its continued fraction in
/// the form of Lentz (Abramowitz and Stegun 26.5.8).
inline double incomplete_beta_left(double a, double b, double x) {
    constexpr double tiny = 1e-300;
    const auto off_zero = [](double v) { return std::abs(v) < tiny ? tiny : v; };
    double c = 1, d = 1 / off_zero(1 - (a + b) * x / (a + 1)), value = d;
    for (int m = 1; m < 10000; ++m) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / off_zero(1 + even * d), c = off_zero(1 + even / c), value *= d * c;
        d = 1 / off_zero(1 + odd * d), c = off_zero(1 + odd / c), value *= d * c;
        if (std::abs(d * c - 1) < 1e-15) break;
    }
    return std::exp(a * std::log(x) + b * std::log1p(-x) + std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b)) *
           value / a;
}
}  // namespace detail

/// Probability that Student's t with `freedom` > 0 degrees of freedom is above t >= 0.
inline double student_tail(double t, double freedom) {
    const double a = freedom / 2, squares = t * t, x = freedom / (freedom + squares), y = squares / (freedom + squares);
    // half of I_x(a, 1/2), or of 1 - I_y(1/2, a) where the fraction of that one is the one that converges
    if (x < (a + 1) / (a + 2.5)) return 0.5 * detail::incomplete_beta_left(a, 0.5, x);
    return y > 0 ? 0.5 - 0.5 * detail::incomplete_beta_left(0.5, a, y) : 0.5;
}

/// The value that Student's t with `freedom` degrees of freedom does not exceed with probability p; 9 digits or more.
inline double student_quantile(double p, double freedom) {
    BF_CHECK(p > 0 && p < 1 && freedom > 0, "student_quantile", "got p ", p, ", freedom ", freedom,
             ", want p in (0, 1), freedom > 0");
    if (p < 0.5) return -student_quantile(1 - p, freedom);
    const double tail = 1 - p;
    double low = 0, high = 1;
    while (student_tail(high, freedom) > tail && high < 1e150) low = high, high *= 2;
    for (int i = 0; i < 200 && low < high; ++i) {
        const double middle = 0.5 * (low + high);
        if (middle == low || middle == high) break;
        (student_tail(middle, freedom) > tail ? low : high) = middle;
    }
    return 0.5 * (low + high);
}

/// A mean with its confidence interval [mean - half, mean + half].
struct MeanInterval {
    int n = 0;
    double mean = std::numeric_limits<double>::quiet_NaN();
    double half = mean;  ///< NaN with fewer than two values

    double low() const { return mean - half; }
    double high() const { return mean + half; }
    bool holds(double value) const { return low() <= value && value <= high(); }
};

/// Mean of independent values with the interval of Student's t that holds the true mean with this confidence, if the
/// values are normal. Of paired differences it is the paired t interval.
inline MeanInterval student_interval(std::span<const double> values, double confidence = 0.95) {
    MeanInterval m;
    m.n = static_cast<int>(values.size());
    if (values.empty()) return m;
    double sum = 0, squares = 0;
    for (const double v : values) sum += v;
    m.mean = sum / m.n;
    if (m.n < 2) return m;
    for (const double v : values) squares += (v - m.mean) * (v - m.mean);
    m.half = student_quantile(0.5 + 0.5 * confidence, m.n - 1) * std::sqrt(squares / (m.n - 1) / m.n);
    return m;
}

}  // namespace bf
