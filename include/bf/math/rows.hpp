#pragma once
#include <cmath>

#include "bf/math/fold.hpp"

// Fold functors over rows of a matrix [rows, cols]: unit rows, softmax cross-entropy.

namespace bf::math {

/// What one of `members` threads brings to a . b over a row of `cols` elements.
template <class T>
BF_HD T dot_share(const T* a, const T* b, std::int64_t cols, int member, int members) {
    T sum = 0;
    for (std::int64_t c = member; c < cols; c += members) sum += a[c] * b[c];
    return sum;
}

/// y = x / max(|x|, 1e-12).
template <class T>
struct NormalizeRows {
    using State = T;
    static constexpr bool adjacent = true;
    int columns;
    const T* x;
    T *y, *inverse_norm;
    std::int64_t rows, cols;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return 0;
        return dot_share(x + row * cols, x + row * cols, cols, member, fold_threads / columns);
    }
    BF_HD static State combine(State a, State b) { return a + b; }
    BF_HD void finish(std::int64_t block, int member, int column, State total) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return;
        const T tiny = static_cast<T>(1e-12), norm = std::sqrt(total);
        const T inverse = T(1) / (tiny < norm ? norm : tiny);
        if (member == 0) inverse_norm[row] = inverse;
        for (std::int64_t c = member; c < cols; c += fold_threads / columns)
            y[row * cols + c] = x[row * cols + c] * inverse;
    }
};

/// dx = (dy - y (y . dy)) / |x|.
template <class T>
struct NormalizeRowsGradient {
    using State = T;
    static constexpr bool adjacent = true;
    int columns;
    const T *y, *inverse_norm, *dy;
    T* dx;
    std::int64_t rows, cols;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return 0;
        return dot_share(y + row * cols, dy + row * cols, cols, member, fold_threads / columns);
    }
    BF_HD static State combine(State a, State b) { return a + b; }
    BF_HD void finish(std::int64_t block, int member, int column, State along) const {
        const std::int64_t row = block * columns + column;
        if (row >= rows) return;
        for (std::int64_t i = row * cols + member; i < (row + 1) * cols; i += fold_threads / columns)
            dx[i] = (dy[i] - y[i] * along) * inverse_norm[row];
    }
};

/// Loss of each row and the log-sum-exp of its logits, in one pass: a state is {largest logit, sum of exp(z -
/// largest)}.
template <class T>
struct SoftmaxCrossEntropy {
    struct State {
        T largest, sum;
    };
    static constexpr bool adjacent = true;
    int columns;
    const T* logits;
    const std::int64_t* labels;
    T *loss, *log_sum_exp;
    std::int64_t rows, cols;

    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s{T(0), T(0)};
        const std::int64_t row = block * columns + column;
        if (row < rows)
            for (std::int64_t c = member; c < cols; c += fold_threads / columns)
                s = combine(s, State{logits[row * cols + c], T(1)});
        return s;
    }
    /// A sum of 0 is the empty state; a logit that is not a number stays in the sum.
    BF_HD static State combine(const State& a, const State& b) {
        if (b.sum == T(0)) return a;
        if (a.sum == T(0)) return b;
        if (b.largest > a.largest) return {b.largest, a.sum * std::exp(a.largest - b.largest) + b.sum};
        return {a.largest, a.sum + b.sum * std::exp(b.largest - a.largest)};
    }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t row = block * columns + column;
        if (member != 0 || row >= rows) return;
        const T all = total.largest + std::log(total.sum);
        log_sum_exp[row] = all;
        loss[row] = all - logits[row * cols + labels[row]];
    }
};

/// One element of dlogits an index.
template <class T>
struct SoftmaxCrossEntropyGradient {
    const T* logits;
    const std::int64_t* labels;
    const T *log_sum_exp, *dloss;
    T* dlogits;
    std::int64_t cols;

    BF_HD void operator()(std::int64_t i) const {
        const Division at = divide(i, cols);
        const T g = dloss[at.quotient], p = std::exp(logits[i] - log_sum_exp[at.quotient]) * g;
        dlogits[i] = labels[at.quotient] == at.rest ? p - g : p;
    }
};

}  // namespace bf::math
