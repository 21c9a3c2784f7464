#pragma once
#include <cmath>

#include "bf/base/random.hpp"
#include "bf/math/margin.hpp"

// Heads that set a margin for each row: from the norm of its embedding, or by chance. They are O(rows) work before
// margin_row(): a Margin with an m2 and an m3 of the row's own.

namespace bf {

/// How the margins of a row come about.
enum class HeadKind {
    fixed,        ///< those of the Margin, for every row
    adaface,      ///< m2 = -m z, m3 = m + m z, z the row's norm in terms of the batches' norms; Kim et al. 2022, eq. 12
    elasticface,  ///< the margin that the Margin has (arcface m2, cosface m3) plus N(0, sigma); Boutros et al. 2022
    curricularface,  ///< arcface's margin; other classes nearer than it weigh more; Huang et al. 2020
                     ///< (math/hard_classes.hpp)
    magface,         ///< m2 = m(|x|), rising from l_m at l_a to u_m at u_a, and a penalty on norms; Meng et al. 2021
};

/// A head's rule with the constants that its authors publish. m of adaface is the m3 of the Margin.
struct HeadRule {
    HeadKind kind = HeadKind::fixed;
    std::int64_t centers =
        1;  ///< rows of W a class, of which the nearest counts (sub-center ArcFace; Deng et al. 2020)
    // adaface: z = (|x| - mean) h / (std + 1e-3), limited to [-1, 1]; |x| to [0.001, 100], without gradient
    double h = 0.333;       ///< concentration
    double t_alpha = 0.01;  ///< share of the newest batch in mean and std
    // elasticface
    double sigma = 0.05;     ///< of arcface in radians, of cosface in cosines
    std::uint64_t seed = 0;  ///< of the draws
    // magface: the penalty is lambda_g (1 / |x| + |x| / u_a^2); norms are limited to [l_a, u_a], where gradients end
    // too
    double l_a = 10, u_a = 110, l_m = 0.45, u_m = 0.8, lambda_g = 35;
    bool detached = false;  ///< variant: margins without gradient; the authors' code lets it through to the norm
};

namespace math {

/// Moving mean and standard deviation of the norms of batches; the start is that of AdaFace's code.
struct NormStatistics {
    double mean = 20, deviation = 100;
};

/// The margins of one row.
struct RowMargins {
    double m2, m3;
};

BF_HD double limited(double value, double low, double high) {
    return value < low ? low : (value > high ? high : value);
}

/// AdaFace: a norm as its statistics and margins see it.
BF_HD double safe_norm(double norm) { return limited(norm, 0.001, 100); }

/// AdaFace: the statistics after a batch with this mean and sum of squared deviations of safe norms. A batch of one row
/// has no standard deviation and moves the mean alone.
BF_HD NormStatistics moved(const HeadRule& rule, const NormStatistics& from, double mean, double squares,
                           long long rows) {
    const double a = rule.t_alpha;
    const double deviation = rows > 1 ? std::sqrt(squares / static_cast<double>(rows - 1)) : from.deviation;
    return {a * mean + (1 - a) * from.mean, a * deviation + (1 - a) * from.deviation};
}

/// A draw from N(0, 1) for row `row` of the call-th batch (Box-Muller).
BF_HD double margin_draw(std::uint64_t seed, std::uint64_t call, std::uint64_t row) {
    const Random4 r = philox(random_key(seed, Stream::margin), call, row);
    const double u = 1 - static_cast<double>(to_uniform(r.v[0])), v = static_cast<double>(to_uniform(r.v[1]));
    return std::sqrt(-2 * std::log(u)) * std::cos(2 * 3.14159265358979323846 * v);
}
/// Rows of the memory draw from here on.
inline constexpr std::uint64_t memory_draws = std::uint64_t{1} << 40;

/// MagFace: d m / d|x|.
BF_HD double margin_rise(const HeadRule& rule) { return (rule.u_m - rule.l_m) / (rule.u_a - rule.l_a); }

/// The margins of a row with this norm; draw: its number for margin_draw().
BF_HD RowMargins row_margins(const HeadRule& rule, const Margin& margin, double norm, const NormStatistics& s,
                             std::uint64_t call, std::uint64_t draw) {
    if (rule.kind == HeadKind::adaface) {
        const double z = limited((safe_norm(norm) - s.mean) / (s.deviation + 1e-3) * rule.h, -1, 1);
        return {-margin.m3 * z, margin.m3 + margin.m3 * z};
    }
    if (rule.kind == HeadKind::elasticface) {
        const double moved_by = rule.sigma * margin_draw(rule.seed, call, draw);
        return margin.kind == MarginKind::cosface ? RowMargins{margin.m2, margin.m3 + moved_by}
                                                  : RowMargins{margin.m2 + moved_by, margin.m3};
    }
    if (rule.kind == HeadKind::magface)
        return {rule.l_m + margin_rise(rule) * (limited(norm, rule.l_a, rule.u_a) - rule.l_a), margin.m3};
    return {margin.m2, margin.m3};
}

/// MagFace: what a row's loss has beside its direction.
struct RadialRow {
    double slope;    ///< d (loss + penalty) / d|x|, the loss through the margin alone
    double penalty;  ///< lambda_g g(|x|)
};

/// own: the row's Margin; probability: that of its class.
BF_HD RadialRow radial_row(const HeadRule& rule, const Margin& own, double scale, double norm, double cosine,
                           double probability) {
    const double a = limited(norm, rule.l_a, rule.u_a), inverse_square = 1 / (rule.u_a * rule.u_a);
    RadialRow row{0, rule.lambda_g * (1 / a + a * inverse_square)};
    if (a != norm) return row;
    row.slope = rule.lambda_g * (inverse_square - 1 / (a * a));
    if (!rule.detached && own.gradient == MarginGradient::exact)
        row.slope += (probability - 1) * scale * own.angle_slope(cosine) * margin_rise(rule);
    return row;
}

/// dx[i] += weight radial[r] x[i] / |x|, i in [0, rows dim), r = i / dim.
template <class T>
struct AddRadial {
    long long dim;
    const T *x, *inverse_norm, *radial;
    T weight;
    T* dx;
    BF_HD void operator()(long long i) const {
        const long long r = i / dim;
        dx[i] += weight * radial[r] * inverse_norm[r] * x[i];
    }
};

}  // namespace math
}  // namespace bf
