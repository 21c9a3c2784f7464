#pragma once
#include <cmath>

#include "bf/math/fold.hpp"
#include "bf/math/update.hpp"

// Work over many tensors in one launch: a list of items (pointers) and a list of chunks (item, first element). A block
// of 256 threads owns a chunk.

namespace bf::math {

inline constexpr std::int64_t chunk_elements = 16384;

/// One tensor, with what an update needs beside its gradient x.
template <class T>
struct ListItem {
    const T* x;
    T *w, *first, *second;
    std::int64_t n;
    double lr_scale, weight_decay;
    std::int64_t group;
    std::int64_t aligned;  ///< all pointers to 16 bytes; eight bytes wide, so that items have no padding to compare
};
struct ListChunk {
    std::int64_t item, begin;
};

/// Appends the chunks of an item with n elements: call(chunk) for each.
template <class Call>
void cut_chunks(std::int64_t item, std::int64_t n, Call&& call) {
    for (std::int64_t begin = 0; begin < n; begin += chunk_elements) call(ListChunk{item, begin});
}

/// An update rule (update.hpp) over all chunks; index i is thread i % 256 of chunk i / 256. An item whose factor is not
/// a number stays as it is.
template <class Rule, class T>
struct UpdateChunks {
    static constexpr int V = pack_size<T>;
    Rule rule;
    const ListItem<T>* items;
    const ListChunk* chunks;
    const double* factors;

    BF_HD void operator()(std::int64_t i) const {
        const ListChunk chunk = chunks[i / fold_threads];
        const ListItem<T> item = items[chunk.item];
        const double scale = factors[item.group];
        if (scale != scale) return;
        Rule scaled = rule;
        scaled.lr *= item.lr_scale;
        const T factor = static_cast<T>(scale), decay = static_cast<T>(item.weight_decay);
        const std::int64_t end = smaller(item.n, chunk.begin + chunk_elements);
        for (std::int64_t e = chunk.begin + i % fold_threads * V; e < end; e += fold_threads * V) {
            if (item.aligned && e + V <= end) {
                T g[V], w[V], first[V], second[V];
                load<V>(item.x + e, true, g);
                load<V>(item.w + e, true, w);
                load<V>(item.first + e, true, first);
                if (item.second)
                    load<V>(item.second + e, true, second);
                else
                    for (int k = 0; k < V; ++k) second[k] = T(0);
                for (int k = 0; k < V; ++k) scaled(g[k], factor, decay, w[k], first[k], second[k]);
                store<V>(item.w + e, true, w);
                store<V>(item.first + e, true, first);
                if (item.second) store<V>(item.second + e, true, second);
            } else {
                for (std::int64_t k = e; k < smaller(end, e + V); ++k) {
                    T second = item.second ? item.second[k] : T(0);
                    scaled(item.x[k], factor, decay, item.w[k], item.first[k], second);
                    if (item.second) item.second[k] = second;
                }
            }
        }
    }
};

/// Sum of squares of each chunk: one f64 partial a block. A thread adds at most 64 squares in T.
template <class T>
struct SquareChunks {
    using State = double;
    static constexpr bool adjacent = true;
    static constexpr int columns = 1, V = pack_size<T>;
    const ListItem<T>* items;
    const ListChunk* chunks;
    double* partial;

    BF_HD State thread(std::int64_t block, int member, int) const {
        const ListChunk chunk = chunks[block];
        const ListItem<T> item = items[chunk.item];
        const std::int64_t end = smaller(item.n, chunk.begin + chunk_elements);
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        for (std::int64_t e = chunk.begin + member * V; e < end; e += fold_threads * V) {
            if (e + V <= end) {
                T x[V];
                load<V>(item.x + e, item.aligned != 0, x);
                for (int k = 0; k < V; ++k) sum[k] += x[k] * x[k];
            } else {
                for (std::int64_t k = e; k < end; ++k) sum[0] += item.x[k] * item.x[k];
            }
        }
        State total = 0;
        for (int k = 0; k < V; ++k) total += static_cast<double>(sum[k]);
        return total;
    }
    BF_HD static State combine(State a, State b) { return a + b; }
    BF_HD void finish(std::int64_t block, int member, int, State total) const {
        if (member == 0) partial[block] = total;
    }
};

/// Factors of groups [begin, begin + count) out of `groups`; one group an index. Every index adds all squares in order,
/// which are few.
struct ClipFactors {
    static constexpr int most = 64;
    const double* squares;
    double *factors, *norm;
    std::int64_t groups, begin, count;
    double global_limit, group_limit[most];

    BF_HD void operator()(std::int64_t i) const {
        double total = 0;
        for (std::int64_t k = 0; k < groups; ++k) total += squares[k];
        total = std::sqrt(total);
        if (begin + i == 0) *norm = total;
        factors[begin + i] = clip_factor(total, global_limit, std::sqrt(squares[begin + i]), group_limit[i]);
    }
};

}  // namespace bf::math
