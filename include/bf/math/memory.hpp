#pragma once
#include <cmath>

#include "bf/math/rows.hpp"

// What memories of past embeddings do: pairs of a batch with them (XBM), and class prototypes mixed with the newest of
// them (VPL).

namespace bf::math {

/// One pair of unit rows with this cosine, and what d loss / d cosine is. Source: Wang et al., CVPR 2020, and the
/// authors' code: a pair of one class costs 1 - cos, another pair cos where that is above the margin.
template <class T>
struct ContrastivePair {
    T loss, slope;
    BF_HD static ContrastivePair of(T cosine, bool same, T margin) {
        if (same) return {T(1) - cosine, T(-1)};
        return cosine > margin ? ContrastivePair{cosine, T(1)} : ContrastivePair{T(0), T(0)};
    }
};

/// As `self`: the batch is not among the columns.
inline constexpr std::int64_t no_self = INT64_MIN / 2;

/// cosines [rows, cols] of a batch with memory rows become slopes; loss[row] += the losses of its pairs. Row i is not
/// paired with column self + i, which is itself; self may be below 0 where the columns begin within the batch.
template <class T>
struct ContrastiveRows {
    using State = T;
    static constexpr bool adjacent = true;
    int columns;
    T margin;
    std::int64_t self;
    const std::int64_t *labels, *memory_labels;
    T *cosines, *loss;
    std::int64_t rows, cols;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        const std::int64_t row = block * columns + column;
        return row < rows ? share(row, member, fold_threads / columns) : T(0);
    }
    /// What one of `members` threads does of a row.
    BF_HD T share(std::int64_t row, int member, int members) const {
        T sum = 0;
        for (std::int64_t c = member; c < cols; c += members) {
            T& at = cosines[row * cols + c];
            const bool itself = c == self + row;
            const auto pair = ContrastivePair<T>::of(at, labels[row] == memory_labels[c], margin);
            at = itself ? T(0) : pair.slope;
            sum += itself ? T(0) : pair.loss;
        }
        return sum;
    }
    BF_HD static State combine(State a, State b) { return a + b; }
    BF_HD void finish(std::int64_t block, int member, int column, State total) const {
        const std::int64_t row = block * columns + column;
        if (member == 0 && row < rows) loss[row] += total;
    }
};

/// newest[labels[i]] = first + i: of rows with the same label the last. Quadratic in their number, without atomics.
struct NewestRows {
    const std::int64_t* labels;
    std::int64_t first;
    std::int64_t* newest;
    std::int64_t n;

    BF_HD void operator()(std::int64_t i) const {
        for (std::int64_t later = i + 1; later < n; ++later)
            if (labels[later] == labels[i]) return;
        newest[labels[i]] = first + i;
    }
};

/// Prototypes of classes that have been seen lately: (1 - lambda) w / |w| + lambda e / |e| with e the newest embedding
/// of the class. Source: Deng et al., "Variational Prototype Learning", CVPR 2021, and insightface recognition/vpl.
struct PrototypeMix {
    double lambda = 0.15;
    std::int64_t first = 0;  ///< rows of the memory with smaller numbers are too old

    /// What multiplies w and e, from their squared norms.
    template <class T>
    struct Factors {
        T w, e;
    };
    template <class T>
    BF_HD Factors<T> factors(T ww, T ee) const {
        return {static_cast<T>(1 - lambda) * inverse(ww), static_cast<T>(lambda) * inverse(ee)};
    }
    /// What multiplies dy and w in d loss / d w, from |w|^2 and w . dy.
    template <class T>
    BF_HD Factors<T> gradient_factors(T ww, T along) const {
        const T a = inverse(ww), scaled = static_cast<T>(1 - lambda) * a;
        return {scaled, -scaled * along * a * a};
    }

  private:
    template <class T>
    BF_HD static T inverse(T squares) {
        const T tiny = static_cast<T>(1e-12), norm = std::sqrt(squares);
        return T(1) / (tiny < norm ? norm : tiny);
    }
};

/// y [rows, cols]: the mixed prototype of each class whose newest row counts, else its w. Row number s of the memory
/// lies in slot s % slots of e.
template <class T>
struct MixPrototypes {
    struct State {
        T ww, ee;
    };
    static constexpr bool adjacent = true;
    int columns;
    PrototypeMix rule;
    const T *w, *e;
    const std::int64_t* newest;  ///< [rows] row numbers, -1: none
    T* y;
    std::int64_t rows, cols, slots;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        const std::int64_t row = block * columns + column;
        const T* memory = row < rows ? memory_of(row) : nullptr;
        if (!memory) return {T(0), T(0)};
        const int members = fold_threads / columns;
        return {dot_share(w + row * cols, w + row * cols, cols, member, members),
                dot_share(memory, memory, cols, member, members)};
    }
    BF_HD static State combine(const State& a, const State& b) { return {a.ww + b.ww, a.ee + b.ee}; }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return;
        const T* memory = memory_of(row);
        const auto f = rule.factors(total.ww, total.ee);
        for (std::int64_t c = member; c < cols; c += fold_threads / columns) {
            const T from = w[row * cols + c];
            y[row * cols + c] = memory ? f.w * from + f.e * memory[c] : from;
        }
    }
    /// The embedding that a class is mixed with; null: none.
    BF_HD const T* memory_of(std::int64_t row) const {
        return newest[row] >= rule.first && newest[row] >= 0 ? e + newest[row] % slots * cols : nullptr;
    }
};

/// dw from dy of the same; dw may be dy.
template <class T>
struct MixPrototypesGradient {
    struct State {
        T ww, along;
    };
    static constexpr bool adjacent = true;
    int columns;
    PrototypeMix rule;
    const T* w;
    const std::int64_t* newest;
    const T* dy;
    T* dw;
    std::int64_t rows, cols;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows || !mixed(row)) return {T(0), T(0)};
        const int members = fold_threads / columns;
        return {dot_share(w + row * cols, w + row * cols, cols, member, members),
                dot_share(w + row * cols, dy + row * cols, cols, member, members)};
    }
    BF_HD static State combine(const State& a, const State& b) { return {a.ww + b.ww, a.along + b.along}; }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return;
        const auto f = rule.gradient_factors(total.ww, total.along);
        for (std::int64_t i = row * cols + member; i < (row + 1) * cols; i += fold_threads / columns)
            dw[i] = mixed(row) ? f.w * dy[i] + f.e * w[i] : dy[i];
    }
    BF_HD bool mixed(std::int64_t row) const { return newest[row] >= rule.first && newest[row] >= 0; }
};

}  // namespace bf::math
