#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

// CurricularFace (Huang et al., CVPR 2020): the logit of another class whose cosine lies above cos(theta_y + m) is
// s cos (t + cos) in place of s cos. t grows with the batch's mean target cosine, and so does the weight of such
// classes. Nothing is derived through the comparison or through t.

namespace bf::math {

/// Part that a batch's mean target cosine has in t: t <- rate mean + (1 - rate) t.
inline constexpr double curricular_rate = 0.01;

/// Cosine above which another class is hard for a row: cos(theta + m), also where theta + m passes pi. The row's cosine
/// is limited to [-1, 1] first.
template <class T>
BF_HD T hard_above(T cosine, T m) {
    const T c = cosine > T(1) ? T(1) : (cosine < T(-1) ? T(-1) : cosine);
    return c * std::cos(m) - std::sqrt((T(1) - c) * (T(1) + c)) * std::sin(m);
}

/// The other classes of one row.
template <class T>
struct HardClasses {
    T above;  ///< cosine above which a class is hard
    T shift;  ///< t

    /// From a class's s cos, limited to [-s, s].
    BF_HD T logit(T plain, T scale) const { return plain > above * scale ? plain * (shift + plain / scale) : plain; }
    /// d logit / d plain.
    BF_HD T slope(T plain, T scale) const { return plain > above * scale ? shift + T(2) * plain / scale : T(1); }
};

}  // namespace bf::math
