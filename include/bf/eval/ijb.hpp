#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "bf/data/ijb.hpp"
#include "bf/eval/bootstrap.hpp"
#include "bf/eval/score_roc.hpp"
#include "bf/eval/search.hpp"
#include "bf/eval/templates.hpp"

namespace bf {

/// Turns template ids into rows of `templates` in place; an id that no image has is a data Error that names `where`.
inline void to_rows(const Templates& templates, std::span<std::uint32_t> ids, const std::string& where) {
    // a table where ids are dense, as they are in IJB; else by bisection
    const std::uint64_t highest = templates.id.empty() ? 0 : templates.id.back();
    std::vector<std::uint32_t> table;
    if (highest < 16 * templates.id.size() + 65536) {
        table.assign(static_cast<std::size_t>(highest) + 1, std::numeric_limits<std::uint32_t>::max());
        for (std::size_t i = 0; i < templates.id.size(); ++i) table[templates.id[i]] = static_cast<std::uint32_t>(i);
    }
    for (std::uint32_t& id : ids) {
        std::int64_t row = -1;
        if (table.empty())
            row = templates.row(id);
        else if (id < table.size() && table[id] < templates.id.size())
            row = table[id];
        BF_CHECK_DATA(row >= 0, where, "names template ", id, ", which no image belongs to; want one of the ",
                      templates.id.size(), " templates of face_tid_mid.txt");
        id = static_cast<std::uint32_t>(row);
    }
}

namespace detail {
/// A sum in 32 lanes, the same for (a, b) and (b, a).
inline double dot(const double* a, const double* b, std::int64_t dim) {
    using Lanes [[gnu::vector_size(64)]] = double;
    Lanes sum[4] = {};
    std::int64_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        Lanes x[4], y[4];
        std::memcpy(x, a + d, sizeof x);
        std::memcpy(y, b + d, sizeof y);
        for (int l = 0; l < 4; ++l) sum[l] += x[l] * y[l];
    }
    const Lanes all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    double rest = 0;
    for (; d < dim; ++d) rest += a[d] * b[d];
    return ((all[0] + all[1]) + (all[2] + all[3])) + ((all[4] + all[5]) + (all[6] + all[7])) + rest;
}
}  // namespace detail

/// Dot products in f64 of pairs of rows of features [T, D] f64, in the order of the pairs. Each depends on its two rows
/// alone, so equal templates give equal scores, and threads change nothing.
inline std::vector<double> pair_scores(const Tensor& features, std::span<const std::uint32_t> first,
                                       std::span<const std::uint32_t> second) {
    BF_CHECK(features.rank() == 2 && features.dtype() == DType::f64, "pair_scores", "features; got ", features.str(),
             ", want [T, D] f64");
    BF_CHECK(first.size() == second.size() && first.size() < std::numeric_limits<std::uint32_t>::max(), "pair_scores",
             "counts differ, or are too many; got ", first.size(), " and ", second.size());
    const auto rows = static_cast<std::uint64_t>(features.dim(0));
    const std::int64_t dim = features.dim(1);
    for (std::size_t i = 0; i < first.size(); ++i)
        BF_CHECK(std::max(first[i], second[i]) < rows, "pair_scores", "pair ", i, " names row ",
                 std::max(first[i], second[i]), " of ", rows);
    // Pairs are taken tile by tile of 64 x 64 templates, whose rows stay in the cache.
    struct Entry {
        std::uint32_t first, second, at;
    };
    const std::uint64_t tile = std::max<std::uint64_t>(64, (rows + 1023) / 1024), across = (rows + tile - 1) / tile;
    std::vector<std::uint32_t> start(static_cast<std::size_t>(across * across + 1));
    std::vector<Entry> order(first.size());
    const auto tile_of = [&](std::size_t i) {
        return static_cast<std::size_t>(first[i] / tile * across + second[i] / tile);
    };
    for (std::size_t i = 0; i < first.size(); ++i) ++start[tile_of(i) + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    for (std::size_t i = 0; i < first.size(); ++i)
        order[start[tile_of(i)]++] = {first[i], second[i], static_cast<std::uint32_t>(i)};
    std::vector<double> scores(first.size());
    const double* f = features.data<double>();
    parallel_for(static_cast<std::int64_t>(order.size()), 16384, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t k = begin; k < end; ++k) {
            const Entry e = order[static_cast<std::size_t>(k)];
            if (k + 16 < end) __builtin_prefetch(&scores[order[static_cast<std::size_t>(k + 16)].at], 1);
            scores[e.at] = detail::dot(f + e.first * dim, f + e.second * dim, dim);
        }
    });
    return scores;
}

/// Bootstrap intervals of the TAR at fixed thresholds: clusters of genuine scores (one a subject) are drawn with
/// replacement. The thresholds stay, so what the choice of impostors adds is not in it.
inline std::vector<Interval> bootstrap_tar(std::span<const double> genuine, std::span<const std::uint32_t> cluster,
                                           std::span<const double> thresholds, const BootstrapOptions& options = {}) {
    BF_CHECK(genuine.size() == cluster.size() && !genuine.empty(), "bootstrap_tar", "got ", genuine.size(), " scores, ",
             cluster.size(), " clusters");
    // only subjects that occur are drawn: their ids made dense
    std::vector<std::uint32_t> ids(cluster.begin(), cluster.end());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    std::vector<std::int64_t> dense;
    for (const std::uint32_t c : cluster) dense.push_back(std::lower_bound(ids.begin(), ids.end(), c) - ids.begin());
    return bootstrap(
        Resampling::clusters(dense), thresholds.size(),
        [&](std::span<const std::uint32_t> weights, std::span<double> out) {
            double all = 0;
            std::fill(out.begin(), out.end(), 0.0);
            for (std::size_t i = 0; i < genuine.size(); ++i) {
                all += weights[i];
                for (std::size_t t = 0; t < thresholds.size(); ++t)
                    if (genuine[i] >= thresholds[t]) out[t] += weights[i];
            }
            for (double& rate : out) rate /= all;
        },
        options);
}

/// What 1:N search in one gallery gives. Probes whose subject is in the gallery are mated.
struct GallerySearch {
    std::int64_t mated = 0, non_mated = 0;
    std::vector<std::int64_t> hits;  ///< [r - 1]: mated probes whose mate stands at rank r or better
    std::vector<double> threshold;   ///< at each wanted FPIR; NaN where no probe is non-mated
    std::vector<double> tpir;        ///< there; NaN likewise, or where none is mated
};

/// Searches probes [P, D] in a gallery [G, D] of unit rows (f32). The rank of a mate is 1 + the number of other gallery
/// entries that score as high or higher: ties count against it. TPIR at FPIR x: the threshold is the
/// max(floor(non-mated * x), 1)-th largest of the non-mated probes' best scores; a mated probe is a hit if its mate
/// scores above all others and above the threshold. A subject that stands twice in the gallery is a data Error.
inline GallerySearch search_gallery(const Tensor& probes, std::span<const std::uint32_t> probe_subject,
                                    const Tensor& gallery, std::span<const std::uint32_t> gallery_subject,
                                    std::span<const double> fpirs, std::int64_t ranks) {
    BF_CHECK(probes.dim(0) == static_cast<std::int64_t>(probe_subject.size()) && ranks >= 1 &&
                 gallery.dim(0) == static_cast<std::int64_t>(gallery_subject.size()),
             "search_gallery", "got probes ", probes.str(), " of ", probe_subject.size(), " subjects, gallery ",
             gallery.str(), " of ", gallery_subject.size(), ", ", ranks, " ranks");
    std::vector<std::pair<std::uint32_t, std::int64_t>> mates;  // subject, row
    for (std::size_t i = 0; i < gallery_subject.size(); ++i)
        mates.emplace_back(gallery_subject[i], static_cast<std::int64_t>(i));
    std::sort(mates.begin(), mates.end());
    for (std::size_t i = 1; i < mates.size(); ++i)
        BF_CHECK_DATA(mates[i].first != mates[i - 1].first, "search_gallery", "subject ", mates[i].first,
                      " stands twice in the gallery; want one template a subject");
    // one more than the ranks asked for shows whether further entries tie with the last
    const std::int64_t k = ranks + 1;
    const TopK top = top_k(probes, gallery, k, {.score = {.cosine = false}});
    const float* scores = top.scores.data<float>();
    const std::int64_t* rows = top.indices.data<std::int64_t>();
    GallerySearch out;
    out.hits.assign(static_cast<std::size_t>(ranks), 0);
    std::vector<float> sure, best_of_non_mated;  // sure: mates above all others
    for (std::int64_t p = 0; p < probes.dim(0); ++p) {
        const std::uint32_t subject = probe_subject[static_cast<std::size_t>(p)];
        const auto mate = std::lower_bound(mates.begin(), mates.end(), std::pair{subject, std::int64_t{0}});
        const float* s = scores + p * k;
        if (mate == mates.end() || mate->first != subject) {
            ++out.non_mated;
            best_of_non_mated.push_back(s[0]);
            continue;
        }
        ++out.mated;
        const std::int64_t at = std::find(rows + p * k, rows + (p + 1) * k, mate->second) - (rows + p * k);
        if (at == k) continue;
        const std::int64_t rank = std::upper_bound(s, s + k, s[at], std::greater<>()) - s;
        for (std::int64_t r = rank; r <= ranks; ++r) ++out.hits[static_cast<std::size_t>(r - 1)];
        if (rank == 1) sure.push_back(s[at]);
    }
    std::sort(best_of_non_mated.begin(), best_of_non_mated.end(), std::greater<>());
    for (const double x : fpirs) {
        const double none = std::numeric_limits<double>::quiet_NaN();
        if (best_of_non_mated.empty()) {
            out.threshold.push_back(none), out.tpir.push_back(none);
            continue;
        }
        const auto accepted = static_cast<std::int64_t>(static_cast<double>(out.non_mated) * x);
        const float t =
            best_of_non_mated[static_cast<std::size_t>(std::clamp<std::int64_t>(accepted, 1, out.non_mated) - 1)];
        out.threshold.push_back(static_cast<double>(t));
        const auto hits = std::count_if(sure.begin(), sure.end(), [t](float s) { return s > t; });
        out.tpir.push_back(out.mated ? static_cast<double>(hits) / static_cast<double>(out.mated) : none);
    }
    return out;
}

/// Rows of `features` f64 as f32, for a search.
inline Tensor rows_for_search(const Tensor& features, std::span<const std::uint32_t> rows) {
    const std::int64_t dim = features.dim(1);
    const Tensor out = Tensor::empty({static_cast<std::int64_t>(rows.size()), dim});
    for (std::size_t i = 0; i < rows.size(); ++i)
        for (std::int64_t d = 0; d < dim; ++d)
            out.data<float>()[static_cast<std::int64_t>(i) * dim + d] =
                static_cast<float>(features.data<double>()[rows[i] * dim + d]);
    return out;
}

}  // namespace bf
