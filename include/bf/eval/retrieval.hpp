#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include "bf/eval/search.hpp"

namespace bf {

struct RetrievalOptions {
    std::vector<std::int64_t> ks{1, 10, 100, 1000};  ///< of Recall@K
    /// Called with the number of queries done; what it throws ends the work.
    std::function<void(std::int64_t)> progress{};
};

/// What each query finds, and the means over queries.
///
/// Recall@K: 1 if one of the K nearest others has the query's label. R: number of others with the query's label.
/// R-precision: share of the R nearest that have it. MAP@R: mean over i = 1..R of (precision among the first i) if the
/// i-th has it, else 0 (Musgrave, Belongie, Lim 2020, "A metric learning reality check"). A query whose label nobody
/// else has counts as a miss in Recall@K, and is left out of the other two, which are not defined for it.
struct RetrievalResult {
    std::vector<std::int64_t> ks;
    std::vector<double> recall;  ///< at each K, over all queries
    double r_precision = 0, map_at_r = 0;
    std::int64_t queries = 0, gallery = 0;
    std::int64_t without_match = 0;  ///< queries with R = 0

    std::vector<std::int64_t>
        first_hit;  ///< query by query, rank (from 1) of the first hit among the searched; 0: none
    std::vector<double> query_r_precision, query_map_at_r;  ///< not a number where R = 0
};

namespace detail {

/// `self[q]`: the gallery row that is query q itself, or -1.
inline RetrievalResult retrieve(const Tensor& queries, std::span<const std::int64_t> query_labels,
                                const Tensor& gallery, std::span<const std::int64_t> gallery_labels,
                                std::span<const std::int64_t> self, const RetrievalOptions& options) {
    BF_CHECK(queries.rank() == 2 && static_cast<std::int64_t>(query_labels.size()) == queries.dim(0) &&
                 gallery.rank() == 2 && static_cast<std::int64_t>(gallery_labels.size()) == gallery.dim(0) &&
                 queries.dim(0) > 0 && gallery.dim(0) > 0,
             "retrieval", "want one label a row; got ", query_labels.size(), " for ", queries.str(), ", ",
             gallery_labels.size(), " for ", gallery.str());
    BF_CHECK(!options.ks.empty() && *std::min_element(options.ks.begin(), options.ks.end()) >= 1, "retrieval",
             "K of Recall@K; want 1 or more");
    RetrievalResult r;
    r.ks = options.ks;
    r.queries = queries.dim(0);
    r.gallery = gallery.dim(0);
    std::map<std::int64_t, std::int64_t> count;
    for (const std::int64_t label : gallery_labels) ++count[label];
    const auto others = [&](std::int64_t q) {
        const auto it = count.find(query_labels[static_cast<std::size_t>(q)]);
        return (it == count.end() ? 0 : it->second) - (self.empty() ? 0 : 1);
    };
    std::int64_t depth = *std::max_element(options.ks.begin(), options.ks.end());
    for (std::int64_t q = 0; q < r.queries; ++q) depth = std::max(depth, others(q));
    depth = std::min(depth, r.gallery);
    // so many queries at a time that their neighbours take 64 MiB
    const std::int64_t block = std::clamp<std::int64_t>((std::int64_t{64} << 20) / (12 * depth), 64, 65536);
    for (std::int64_t begin = 0; begin < r.queries; begin += block) {
        const std::int64_t end = std::min(r.queries, begin + block);
        const std::span<const std::int64_t> excluded =
            self.empty() ? self : self.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
        const TopK near = top_k(queries.rows(begin, end), gallery, depth, {.exclude_self = excluded});
        for (std::int64_t q = begin; q < end; ++q) {
            const std::int64_t *row = near.indices.data<std::int64_t>() + (q - begin) * depth, relevant = others(q);
            std::int64_t first = 0, hits = 0;
            double precisions = 0;
            for (std::int64_t i = 0; i < depth && row[i] >= 0 && (first == 0 || i < relevant); ++i) {
                if (gallery_labels[static_cast<std::size_t>(row[i])] != query_labels[static_cast<std::size_t>(q)])
                    continue;
                if (first == 0) first = i + 1;
                if (i >= relevant) continue;
                ++hits;
                precisions += static_cast<double>(hits) / static_cast<double>(i + 1);
            }
            r.first_hit.push_back(first);
            r.query_r_precision.push_back(relevant ? static_cast<double>(hits) / static_cast<double>(relevant)
                                                   : std::numeric_limits<double>::quiet_NaN());
            r.query_map_at_r.push_back(relevant ? precisions / static_cast<double>(relevant)
                                                : std::numeric_limits<double>::quiet_NaN());
            if (relevant == 0) {
                ++r.without_match;
                continue;
            }
            r.r_precision += r.query_r_precision.back();
            r.map_at_r += r.query_map_at_r.back();
        }
        if (options.progress) options.progress(end);
    }
    for (const std::int64_t k : r.ks)
        r.recall.push_back(
            static_cast<double>(std::count_if(r.first_hit.begin(), r.first_hit.end(),
                                              [k](std::int64_t rank) { return rank > 0 && rank <= k; })) /
            static_cast<double>(r.queries));
    const auto defined = static_cast<double>(r.queries - r.without_match);
    r.r_precision /= defined;
    r.map_at_r /= defined;
    return r;
}

}  // namespace detail

/// Each row [n, D] searched among all others: itself is left out by its index, so exact duplicates stay. Nearest by L2
/// distance of the normalised rows (largest cosine), equals by the lower index.
inline RetrievalResult retrieve(const Tensor& embeddings, std::span<const std::int64_t> labels,
                                const RetrievalOptions& options = {}) {
    std::vector<std::int64_t> self(labels.size());
    std::iota(self.begin(), self.end(), 0);
    return detail::retrieve(embeddings, labels, embeddings, labels, self, options);
}

/// Queries searched in a gallery of other images.
inline RetrievalResult retrieve(const Tensor& queries, std::span<const std::int64_t> query_labels,
                                const Tensor& gallery, std::span<const std::int64_t> gallery_labels,
                                const RetrievalOptions& options = {}) {
    return detail::retrieve(queries, query_labels, gallery, gallery_labels, {}, options);
}

}  // namespace bf
