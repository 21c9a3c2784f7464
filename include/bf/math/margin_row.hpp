#pragma once
#include "bf/math/margin.hpp"

namespace bf::math {

/// What one row of a margin softmax needs beside its products.
template <class T>
struct MarginRow {
    T target_logit;  ///< s phi(cos)
    T slope;         ///< d phi / d cos
    T log_sum_exp;   ///< over all classes, target included
    BF_HD T loss() const { return log_sum_exp - target_logit; }
};

/// Completes a row: `largest` and `sum` are the largest logit of the other classes and the sum of exp(logit - largest)
/// over them, `cosine` the row's cosine with its own class (limited to [-1, 1] here). margin: cosine -> MarginValue.
template <class T, class MarginFunctor>
BF_HD MarginRow<T> margin_row(const MarginFunctor& margin, T scale, T largest, T sum, T cosine) {
    const T c = cosine > T(1) ? T(1) : (cosine < T(-1) ? T(-1) : cosine);
    const auto v = margin(c);
    const T z = scale * static_cast<T>(v.phi), top = z > largest ? z : largest;
    const T others = sum > T(0) ? sum * std::exp(largest - top) : T(0);
    return {z, static_cast<T>(v.slope), top + std::log(std::exp(z - top) + others)};
}

}  // namespace bf::math
