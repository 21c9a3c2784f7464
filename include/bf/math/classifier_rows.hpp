#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

// Row maths of a margin softmax that works in tiles of rows x classes: what the kernels of cuda/classifier.cu do to
// each entry, and how tiles join. The products between are plain GEMMs.

namespace bf::math {

/// e^x. In f32 on a GPU the fast instruction: its relative error grows with |x|, where a softmax term is small.
template <class T>
BF_HD T tile_exp(T x) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(T) == sizeof(float)) return __expf(x);
#endif
    return std::exp(x);
}

/// s cos, the cosine limited to [-1, 1]; not a number stays so.
template <class T>
BF_HD T tile_logit(T cosine, T scale) {
    return (cosine > T(1) ? T(1) : (cosine < T(-1) ? T(-1) : cosine)) * scale;
}

/// Largest value seen and the sum of exp(value - largest): a log-sum-exp that grows as values come.
template <class T>
struct OnlineSum {
    T largest = -static_cast<T>(HUGE_VAL);
    T sum = 0;

    /// Takes in N values; -infinity stands for "no value". One rescaling for all of them.
    template <int N>
    BF_HD void add(const T (&values)[N]) {
        const T none = -static_cast<T>(HUGE_VAL);
        T top = largest;
        for (int i = 0; i < N; ++i) top = values[i] > top ? values[i] : top;
        if (top > largest) {
            sum = sum == T(0) ? T(0) : sum * tile_exp(largest - top);
            largest = top;
        }
        const T from = top == none ? T(0) : top;  // "no value" less itself would be no number
        for (int i = 0; i < N; ++i) sum += tile_exp(values[i] - from);
    }
    /// Takes in the sum of other values.
    BF_HD void join(const OnlineSum& other) {
        const T top = other.largest > largest ? other.largest : largest;
        sum = rescaled(*this, top) + rescaled(other, top);
        largest = top;
    }

  private:
    BF_HD static T rescaled(const OnlineSum& s, T top) {
        return s.sum == T(0) ? T(0) : s.sum * tile_exp(s.largest - top);
    }
};

/// What the backward passes need of a row.
template <class T>
struct GradientRow {
    T log_sum_exp, target_logit, slope;
    long long label;  ///< global class number

    /// d loss / d logit of the own class, which takes its logit and slope from the margin.
    BF_HD T own() const { return (tile_exp(target_logit - log_sum_exp) - T(1)) * slope; }
    /// d loss / d logit of another class from its cosine.
    BF_HD T other(T cosine, T scale) const { return tile_exp(tile_logit(cosine, scale) - log_sum_exp); }
};

/// Gradient of a raw row from the gradient g of its unit row: factor (g - u (u . g)) / |row|, u = row inverse_norm.
template <class T>
struct UnitGradient {
    T inverse_norm, factor;
    T along;  ///< (g . row) / |row|^2, by finish()

    BF_HD void finish(T dot) { along = dot * inverse_norm * inverse_norm; }
    BF_HD T operator()(T g, T row) const { return factor * (g - row * along) * inverse_norm; }
};

}  // namespace bf::math
