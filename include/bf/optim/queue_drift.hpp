#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bf/core/tensor.hpp"

namespace bf {

/// How far queue rows are from the same inputs encoded now (e): e- as stored, e* compensated.
struct DriftMeans {
    std::int64_t rows = 0;
    double cos_plain = 0, cos_compensated = 0;      ///< mean cosine of e- and of e* with e
    double error_plain = 0, error_compensated = 0;  ///< mean |e- - e| / |e| and |e* - e| / |e|
};

/// The rows of a range of ages.
struct DriftBin {
    std::int64_t youngest = 0, end = 0;  ///< ages in [youngest, end), steps
    double age = 0;                      ///< mean age of its rows
    DriftMeans means;                    ///< all means are not a number where rows is 0
};

/// The drift of sampled queue rows, over all of them and by age.
struct QueueDrift {
    DriftMeans all;
    std::vector<DriftBin> by_age;
};

namespace detail {

/// Adds row i of stored, moved and fresh [n, D] (host) to sums.
template <class T>
void add_drift(const Tensor& stored, const Tensor& moved, const Tensor& fresh, std::int64_t i, DriftMeans& sums) {
    const std::int64_t dim = fresh.dim(1);
    const T *s = stored.data<T>() + i * dim, *m = moved.data<T>() + i * dim, *f = fresh.data<T>() + i * dim;
    double ss = 0, mm = 0, ff = 0, sf = 0, mf = 0, s_off = 0, m_off = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
        const auto a = static_cast<double>(s[d]), b = static_cast<double>(m[d]), e = static_cast<double>(f[d]);
        ss += a * a;
        mm += b * b;
        ff += e * e;
        sf += a * e;
        mf += b * e;
        s_off += (a - e) * (a - e);
        m_off += (b - e) * (b - e);
    }
    const double tiny = 1e-24;
    ++sums.rows;
    sums.cos_plain += sf / std::sqrt(std::max(tiny, ss * ff));
    sums.cos_compensated += mf / std::sqrt(std::max(tiny, mm * ff));
    sums.error_plain += std::sqrt(s_off / std::max(tiny, ff));
    sums.error_compensated += std::sqrt(m_off / std::max(tiny, ff));
}

/// Sums become means.
inline void finish_drift(DriftMeans& sums) {
    const double n = sums.rows > 0 ? static_cast<double>(sums.rows) : std::numeric_limits<double>::quiet_NaN();
    for (double* sum : {&sums.cos_plain, &sums.cos_compensated, &sums.error_plain, &sums.error_compensated}) *sum /= n;
}

}  // namespace detail

/// Compares rows as stored and as moved with the same rows encoded now, all [n, D] of one dtype on the host; ages [n]
/// in steps. The ages that occur are cut into at most `bins` ranges of nearly equal width.
inline QueueDrift drift_by_age(const Tensor& stored, const Tensor& moved, const Tensor& fresh,
                               const std::vector<std::int64_t>& ages, std::int64_t bins = 10) {
    BF_CHECK(bins > 0 && static_cast<std::int64_t>(ages.size()) == fresh.dim(0), "drift_by_age", "got ", ages.size(),
             " ages of rows ", fresh.str(), ", ", bins, " bins");
    QueueDrift out;
    if (ages.empty()) return out;
    const auto [least, most] = std::minmax_element(ages.begin(), ages.end());
    const std::int64_t youngest = *least, span = *most - youngest + 1, n = std::min(bins, span);
    for (std::int64_t k = 0; k < n; ++k)
        out.by_age.push_back({.youngest = youngest + k * span / n, .end = youngest + (k + 1) * span / n, .means = {}});
    visit_real(fresh.dtype(), "drift_by_age", [&]<class T>() {
        for (std::size_t i = 0; i < ages.size(); ++i) {
            DriftBin& bin = *std::find_if(out.by_age.begin(), out.by_age.end(),
                                          [age = ages[i]](const DriftBin& b) { return age < b.end; });
            bin.age += static_cast<double>(ages[i]);
            detail::add_drift<T>(stored, moved, fresh, static_cast<std::int64_t>(i), bin.means);
            detail::add_drift<T>(stored, moved, fresh, static_cast<std::int64_t>(i), out.all);
        }
    });
    for (DriftBin& bin : out.by_age) {
        bin.age /= bin.means.rows > 0 ? static_cast<double>(bin.means.rows) : std::numeric_limits<double>::quiet_NaN();
        detail::finish_drift(bin.means);
    }
    detail::finish_drift(out.all);
    return out;
}

}  // namespace bf
