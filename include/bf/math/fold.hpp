#pragma once
#include "bf/math/element.hpp"

// Fold functors: a block of 256 threads computes `columns` results, each folded from 256 / columns members.
//   struct F {
//       struct State;                                             what a thread brings
//       static constexpr bool adjacent;                           neighbouring threads are members of one column, else
//                                                                 they are neighbouring columns
//       int columns;                                              a power of two, at most 256
//       State thread(block, member, column) const;                the thread's own share
//       static State combine(State, State);
//       void finish(block, member, column, State total) const;    every thread is told the total of its column
//   };
// Threads combine in a tree of fixed form, so that results have the same bits from run to run. On a GPU a kernel runs
// it (cuda/fold.cuh), in the tests a loop.

namespace bf::math {

inline constexpr int fold_threads = 256;

/// Place of a thread: its state is kept at slot = member * columns + column.
struct FoldPlace {
    int member, column;
};
BF_HD FoldPlace fold_place(int thread, int columns, bool adjacent) {
    const int members = fold_threads / columns;
    return adjacent ? FoldPlace{thread % members, thread / members} : FoldPlace{thread / columns, thread % columns};
}

/// The smallest power of two that is at least n, within [1, limit].
BF_HD int power_of_two(std::int64_t n, int limit) {
    int p = 1;
    while (p < n && p < limit) p *= 2;
    return p;
}

/// Columns of a block that folds rows of `cols` neighbours: a thread takes about four elements of its row.
BF_HD int fold_columns_for_rows(std::int64_t cols) {
    return fold_threads / power_of_two(ceil_div(cols, 4), fold_threads);
}

/// First pass over a whole tensor: one f64 partial a block. R: a reducer of reduce.hpp.
template <class R, class T>
struct FoldAll {
    using State = double;
    static constexpr bool adjacent = true;
    static constexpr int columns = 1, V = pack_size<T>;
    const T* x;
    double* partial;  ///< [blocks]
    std::int64_t n, blocks;
    bool aligned;

    /// Blocks for n elements: a function of n alone.
    BF_HD static std::int64_t blocks_for(std::int64_t n) {
        return larger(1, smaller(1024, ceil_div(n, std::int64_t{fold_threads} * V * 4)));
    }
    BF_HD State thread(std::int64_t block, int member, int) const {
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = R::template identity<T>();
        const std::int64_t step = blocks * fold_threads * V;
        for (std::int64_t i = (block * fold_threads + member) * V; i < n; i += step) {
            if (i + V <= n) {
                T value[V];
                load<V>(x + i, aligned, value);
                for (int k = 0; k < V; ++k) sum[k] = R::combine(sum[k], R::map(value[k]));
            } else {
                for (std::int64_t e = i; e < n; ++e) sum[0] = R::combine(sum[0], R::map(x[e]));
            }
        }
        State total = static_cast<double>(sum[0]);
        for (int k = 1; k < V; ++k) total = R::combine(total, static_cast<double>(sum[k]));
        return total;
    }
    BF_HD static State combine(State a, State b) { return R::combine(a, b); }
    BF_HD void finish(std::int64_t block, int member, int, State total) const {
        if (member == 0) partial[block] = total;
    }
};

/// Second pass, one block: out = finish(partials, n).
template <class R, class T>
struct FoldPartials {
    using State = double;
    static constexpr bool adjacent = true;
    static constexpr int columns = 1;
    const double* partial;
    std::int64_t partials, n;
    T* out;

    BF_HD State thread(std::int64_t, int member, int) const {
        State total = R::template identity<double>();
        for (std::int64_t i = member; i < partials; i += fold_threads) total = R::combine(total, partial[i]);
        return total;
    }
    BF_HD static State combine(State a, State b) { return R::combine(a, b); }
    BF_HD void finish(std::int64_t, int member, int, State total) const {
        if (member == 0) *out = static_cast<T>(R::finish(total, static_cast<double>(n)));
    }
};

/// Each row of x [rows, n] to one value.
template <class R, class T>
struct FoldRows {
    using State = T;
    static constexpr bool adjacent = true;
    int columns;
    const T* x;
    T* y;
    std::int64_t rows, n;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        State total = R::template identity<T>();
        const std::int64_t row = block * columns + column;
        if (row < rows)
            for (std::int64_t i = member; i < n; i += fold_threads / columns)
                total = R::combine(total, R::map(x[row * n + i]));
        return total;
    }
    BF_HD static State combine(State a, State b) { return R::combine(a, b); }
    BF_HD void finish(std::int64_t block, int member, int column, State total) const {
        const std::int64_t row = block * columns + column;
        if (member == 0 && row < rows) y[row] = R::finish(total, static_cast<T>(n));
    }
};

/// x [outer, n, inner] to [outer, inner], inner > 1.
template <class R, class T>
struct FoldColumns {
    using State = T;
    static constexpr bool adjacent = false;
    int columns;
    const T* x;
    T* y;
    std::int64_t n, inner;

    BF_HD std::int64_t blocks(std::int64_t outer) const { return outer * ceil_div(inner, columns); }
    BF_HD State thread(std::int64_t block, int member, int column) const {
        State total = R::template identity<T>();
        const Division at = divide(block, ceil_div(inner, columns));
        const std::int64_t i = at.rest * columns + column;
        if (i < inner)
            for (std::int64_t r = member; r < n; r += fold_threads / columns)
                total = R::combine(total, R::map(x[(at.quotient * n + r) * inner + i]));
        return total;
    }
    BF_HD static State combine(State a, State b) { return R::combine(a, b); }
    BF_HD void finish(std::int64_t block, int member, int column, State total) const {
        const Division at = divide(block, ceil_div(inner, columns));
        const std::int64_t i = at.rest * columns + column;
        if (member == 0 && i < inner) y[at.quotient * inner + i] = R::finish(total, static_cast<T>(n));
    }
};

}  // namespace bf::math
