#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/core/tensor.hpp"

// Exact search: all scores of queries [Q, D] against a gallery [N, D], tile by tile. A score is one f32 sum in the
// order of D, whatever the place of its two rows: the same vectors give the same bits, so that duplicates tie exactly.

namespace bf {

/// How rows are compared.
struct ScoreOptions {
    bool cosine = true;  ///< rows are scaled to length 1 first; else the plain dot product
};

namespace detail {
#ifdef __AVX512F__
inline constexpr std::int64_t score_lanes = 16, tile_rows = 12;
#else
inline constexpr std::int64_t score_lanes = 8, tile_rows = 6;
#endif
inline constexpr std::int64_t tile_columns = 2 * score_lanes;
using ScoreLanes [[gnu::vector_size(4 * score_lanes)]] = float;

/// out [tile_rows, tile_columns] = a b over `depth` of D; a [depth, tile_rows] and b [depth, tile_columns] are packed.
inline void score_tile(const float* a, const float* b, std::int64_t depth, float* out) {
    ScoreLanes sum[tile_rows][2] = {};
    for (std::int64_t d = 0; d < depth; ++d, a += tile_rows, b += tile_columns) {
        ScoreLanes left, right;
        std::memcpy(&left, b, sizeof left);
        std::memcpy(&right, b + score_lanes, sizeof right);
#pragma GCC unroll 12
        for (std::int64_t r = 0; r < tile_rows; ++r) {
            sum[r][0] += a[r] * left;
            sum[r][1] += a[r] * right;
        }
    }
    std::memcpy(out, sum, sizeof sum);
}

/// Packs rows [begin, begin + count) of x [n, D] as [D, width], the rest zero; each row times its scale.
inline void pack_rows(const float* x, std::int64_t dim, const float* scale, std::int64_t count, std::int64_t width,
                      float* out) {
    if (count < width) std::fill_n(out, dim * width, 0.0f);
    for (std::int64_t d0 = 0; d0 < dim; d0 += 16)  // a few columns at a time, so that both sides stay in the cache
        for (std::int64_t r = 0; r < count; ++r)
            for (std::int64_t d = d0; d < std::min(dim, d0 + 16); ++d) out[d * width + r] = x[r * dim + d] * scale[r];
}

/// 1 / length of each row, or ones; a row that is not finite is an error.
inline std::vector<float> row_scales(const Tensor& x, bool cosine, const char* what) {
    std::vector<float> scales(static_cast<std::size_t>(x.dim(0)), 1.0f);
    const std::int64_t dim = x.dim(1);
    parallel_for(x.dim(0), 256, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            double squares = 0;
            for (std::int64_t d = 0; d < dim; ++d) {
                const double v = static_cast<double>(x.data<float>()[i * dim + d]);
                squares += v * v;
            }
            if (!std::isfinite(squares))
                fail(ErrorCode::data, "search", what, " row ", i, " is not finite; hint: did the network diverge?");
            if (cosine)
                scales[static_cast<std::size_t>(i)] = static_cast<float>(1 / std::max(1e-12, std::sqrt(squares)));
        }
    });
    return scales;
}
}  // namespace detail

/// Number of slots that for_each_score() tells apart for `queries` rows: with few queries the gallery is cut too.
inline std::int64_t score_slots(std::int64_t queries) { return queries > 512 ? 1 : 8; }

/// Calls visit(slot, q, first, scores) for all scores: query q against gallery rows first, first + 1, ... f32 on the
/// host. Calls of one (slot, q) come one after the other with growing `first`; others may come at once from several
/// threads. Slots are cut by shape, so what a slot sees does not depend on the number of threads. Memory: about 24 MiB.
template <class Visit>
void for_each_score(const Tensor& queries, const Tensor& gallery, const ScoreOptions& options, Visit&& visit) {
    using namespace detail;
    for (const Tensor* t : {&queries, &gallery})
        BF_CHECK(
            t->defined() && t->rank() == 2 && t->dtype() == DType::f32 && t->dim(1) > 0 && t->dim(1) == queries.dim(1),
            "search", "embeddings; got ", queries.str(), " and ", gallery.str(), ", want [Q, D] and [N, D] f32");
    const std::int64_t nq = queries.dim(0), n = gallery.dim(0), dim = queries.dim(1);
    const std::vector<float> query_scale = row_scales(queries, options.cosine, "query"),
                             gallery_scale = row_scales(gallery, options.cosine, "gallery");
    const float *query = queries.data<float>(), *rows = gallery.data<float>();
    // a block of the gallery is packed once and serves all queries; eight tiles of queries share a task
    constexpr std::int64_t task_rows = 8 * tile_rows;
    const std::int64_t slots = score_slots(nq), tasks = (nq + task_rows - 1) / task_rows;
    const std::int64_t panels = std::max<std::int64_t>(slots, (std::int64_t{16} << 20) / (4 * dim * tile_columns)),
                       block = panels * tile_columns, panel_size = dim * tile_columns;
    std::vector<float> packed(
        static_cast<std::size_t>(std::min(panels, (n + tile_columns - 1) / tile_columns) * panel_size));
    for (std::int64_t begin = 0; begin < n && nq > 0; begin += block) {
        const std::int64_t here = (std::min(n, begin + block) - begin + tile_columns - 1) / tile_columns;
        parallel_for(here, 4, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t p = first; p < last; ++p) {
                const std::int64_t at = begin + p * tile_columns;
                pack_rows(rows + at * dim, dim, gallery_scale.data() + at, std::min(tile_columns, n - at), tile_columns,
                          packed.data() + p * panel_size);
            }
        });
        cpu_pool().run(tasks * slots, [&](std::int64_t task) {
            const std::int64_t slot = task / tasks, q0 = task % tasks * task_rows,
                               tiles = (std::min(nq, q0 + task_rows) - q0 + tile_rows - 1) / tile_rows;
            std::vector<float> a(static_cast<std::size_t>(tiles * tile_rows * dim));
            for (std::int64_t t = 0; t < tiles; ++t) {
                const std::int64_t q = q0 + t * tile_rows;
                pack_rows(query + q * dim, dim, query_scale.data() + q, std::min(tile_rows, nq - q), tile_rows,
                          a.data() + t * tile_rows * dim);
            }
            float tile[tile_rows * tile_columns];
            for (std::int64_t p = here * slot / slots; p < here * (slot + 1) / slots; ++p) {
                const std::int64_t at = begin + p * tile_columns;
                const auto count = static_cast<std::size_t>(std::min(tile_columns, n - at));
                for (std::int64_t t = 0; t < tiles; ++t) {
                    score_tile(a.data() + t * tile_rows * dim, packed.data() + p * panel_size, dim, tile);
                    for (std::int64_t q = q0 + t * tile_rows; q < std::min(nq, q0 + (t + 1) * tile_rows); ++q)
                        visit(slot, q, at,
                              std::span<const float>(tile + (q - q0 - t * tile_rows) * tile_columns, count));
                }
            }
        });
    }
}

/// The k best of the gallery for each query, best first.
struct TopK {
    Tensor scores;   ///< [Q, k] f32; -infinity where the gallery has fewer than k rows to offer
    Tensor indices;  ///< [Q, k] i64, rows of the gallery; -1 there
};

struct TopKOptions {
    ScoreOptions score{};
    /// Query by query a row of the gallery that is left out (the query itself), or -1; empty: none. Only that row goes:
    /// its exact duplicates stay.
    std::span<const std::int64_t> exclude_self{};
};

/// Exact top k by cosine (or dot product) of queries [Q, D] against gallery [N, D], f32 on the host. Equal scores are
/// ordered by the lower index. The same bits for any number of threads. Rows that are not finite are a data Error.
inline TopK top_k(const Tensor& queries, const Tensor& gallery, std::int64_t k, const TopKOptions& options = {}) {
    BF_CHECK(k >= 1, "top_k", "k; got ", k, ", want 1 or more");
    BF_CHECK(queries.defined() && queries.rank() == 2, "top_k", "queries; got ", queries.str(), ", want [Q, D] f32");
    const std::int64_t nq = queries.dim(0);
    BF_CHECK(options.exclude_self.empty() || static_cast<std::int64_t>(options.exclude_self.size()) == nq, "top_k",
             "exclude_self; got ", options.exclude_self.size(), " entries, want one a query: ", nq);
    TopK out{full({nq, k}, -std::numeric_limits<double>::infinity()), Tensor::empty({nq, k}, {.dtype = DType::i64})};
    std::fill_n(out.indices.data<std::int64_t>(), out.indices.numel(), -1);
    using Entry = std::pair<float, std::int64_t>;
    const auto better = [](const Entry& x, const Entry& y) {
        return x.first > y.first || (x.first == y.first && x.second < y.second);
    };
    // queries in slices, so that what is kept meanwhile stays small beside the result
    const std::int64_t slice = std::clamp<std::int64_t>((std::int64_t{1} << 22) / k, 96, 8192);
    for (std::int64_t begin = 0; begin < nq; begin += slice) {
        const std::int64_t count = std::min(nq, begin + slice) - begin, slots = score_slots(count);
        std::vector<std::vector<Entry>> best(static_cast<std::size_t>(slots * count));  // heaps, the worst on top
        for_each_score(queries.rows(begin, begin + count), gallery, options.score,
                       [&](std::int64_t slot, std::int64_t q, std::int64_t first, std::span<const float> scores) {
                           auto& heap = best[static_cast<std::size_t>(slot * count + q)];
                           const bool filled = static_cast<std::int64_t>(heap.size()) == k;
                           // rows come in order, so an equal score never displaces an earlier row
                           const float least = filled ? heap.front().first : -std::numeric_limits<float>::infinity();
                           int above = !filled;
                           for (const float s : scores) above |= s > least;
                           if (!above) return;
                           const std::int64_t self = options.exclude_self.empty()
                                                         ? -1
                                                         : options.exclude_self[static_cast<std::size_t>(begin + q)];
                           for (std::size_t i = 0; i < scores.size(); ++i) {
                               const Entry e{scores[i], first + static_cast<std::int64_t>(i)};
                               if (e.second == self) continue;
                               if (static_cast<std::int64_t>(heap.size()) == k) {
                                   if (!(e.first > heap.front().first)) continue;
                                   std::pop_heap(heap.begin(), heap.end(), better);
                                   heap.back() = e;
                               } else {
                                   heap.push_back(e);
                               }
                               std::push_heap(heap.begin(), heap.end(), better);
                           }
                       });
        for (std::int64_t q = 0; q < count; ++q) {
            auto& all = best[static_cast<std::size_t>(q)];
            for (std::int64_t slot = 1; slot < slots; ++slot) {
                const auto& more = best[static_cast<std::size_t>(slot * count + q)];
                all.insert(all.end(), more.begin(), more.end());
            }
            std::sort(all.begin(), all.end(), better);
            for (std::int64_t i = 0; i < std::min(k, static_cast<std::int64_t>(all.size())); ++i) {
                out.scores.data<float>()[(begin + q) * k + i] = all[static_cast<std::size_t>(i)].first;
                out.indices.data<std::int64_t>()[(begin + q) * k + i] = all[static_cast<std::size_t>(i)].second;
            }
        }
    }
    return out;
}

}  // namespace bf
