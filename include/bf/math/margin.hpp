#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

// Margins change the target logit only: z_y = s phi(cos theta_y). A margin is therefore O(rows) work outside the
// large products, and a functor: cosine in, {phi, d phi / d cos} out.

namespace bf {

/// phi(cos) and its derivative with respect to cos.
template <class T>
struct MarginValue {
    T phi, slope;
};

/// The heads of the field.
enum class MarginKind {
    softmax,     ///< phi = cos: plain normalised softmax
    arcface,     ///< phi = cos(theta + m2); Deng et al. 2019
    cosface,     ///< phi = cos - m3; Wang et al. 2018
    combined,    ///< phi = cos(m1 theta + m2) - m3; Deng et al. 2019, section 2.3
    sphereface,  ///< phi = (-1)^k cos(m1 theta) - 2k, theta in [k pi / m1, (k+1) pi / m1]; Liu et al. 2017
    adaface,     ///< phi = cos(theta + m2, limited to [eps, pi - eps]) - m3, eps 1e-3; Kim et al. 2022, eq. 12
};

/// Which derivative the target logit has. InsightFace computes the margin outside its graph, so that
/// d z_y / d cos = s; `exact` is the true derivative and keeps phi monotone where theta + m2 > pi (the BroadFace
/// authors' guard: cos - m2 sin(m2)).
enum class MarginGradient { exact, straight_through };

/// One margin head with its scale.
struct Margin {
    MarginKind kind = MarginKind::arcface;
    double scale = 64, m1 = 1, m2 = 0.5, m3 = 0;
    MarginGradient gradient = MarginGradient::exact;
    bool easy = false;  ///< arcface: rows with cos <= 0 have no margin

    /// The same head with a row's own margins: see math/margin_head.hpp.
    BF_HD Margin with(double own_m2, double own_m3) const {
        Margin own = *this;
        own.m2 = own_m2;
        own.m3 = own_m3;
        return own;
    }
    /// d phi / d m2 of arcface at a cosine, for a margin that is itself differentiated.
    template <class T>
    BF_HD T angle_slope(T cosine) const {
        const T c = cosine > T(1) ? T(1) : (cosine < T(-1) ? T(-1) : cosine);
        const T m = static_cast<T>(m2), angle = std::acos(c) + m;
        if (easy && c <= T(0)) return T(0);
        if (gradient == MarginGradient::exact && angle > static_cast<T>(3.14159265358979323846))
            return -std::sin(m) - m * std::cos(m);
        return -std::sin(angle);
    }
    /// phi and slope at a cosine, which is first limited to [-1, 1]. Finite everywhere: sin(theta) is kept above
    /// 1e-6 in the derivative.
    template <class T>
    BF_HD MarginValue<T> operator()(T cosine) const {
        const T c = cosine > T(1) ? T(1) : (cosine < T(-1) ? T(-1) : cosine);
        const bool exact = gradient == MarginGradient::exact;
        MarginValue<T> v{c, T(1)};
        if (kind == MarginKind::cosface) {
            v.phi = c - static_cast<T>(m3);
        } else if (kind == MarginKind::adaface) {
            const T low = static_cast<T>(1e-3), high = static_cast<T>(3.14159265358979323846) - low;
            const T angle = std::acos(c) + static_cast<T>(m2);
            const T kept = angle < low ? low : (angle > high ? high : angle);
            v.phi = std::cos(kept) - static_cast<T>(m3);
            v.slope = kept == angle ? std::sin(angle) / sine(c) : T(0);
        } else if (kind == MarginKind::arcface && easy && c <= T(0)) {
            v.phi = c;
        } else if (kind == MarginKind::arcface || kind == MarginKind::combined) {
            const T factor = kind == MarginKind::arcface ? T(1) : static_cast<T>(m1);
            const T shift = kind == MarginKind::arcface ? T(0) : static_cast<T>(m3);
            const T m = static_cast<T>(m2), pi = static_cast<T>(3.14159265358979323846);
            const T theta = std::acos(c), angle = factor * theta + m;
            if (exact && angle > pi && factor > T(1)) {
                v.phi = T(-2) - std::cos(angle) - shift;  // mirrored at -1: continuous, falling up to an angle of 2 pi
                v.slope = -factor * std::sin(angle) / sine(c);
            } else if (exact && angle > pi) {
                v.phi = c - m * std::sin(m) - shift;
            } else {
                v.phi = std::cos(angle) - shift;
                v.slope = factor * std::sin(angle) / sine(c);
            }
        } else if (kind == MarginKind::sphereface) {
            const T factor = static_cast<T>(m1), pi = static_cast<T>(3.14159265358979323846);
            const T theta = std::acos(c);
            const T k = std::floor(factor * theta / pi), sign = std::fmod(k, T(2)) == T(0) ? T(1) : T(-1);
            v.phi = sign * std::cos(factor * theta) - T(2) * k;
            v.slope = sign * factor * std::sin(factor * theta) / sine(c);
        }
        if (!exact) v.slope = T(1);
        return v;
    }

  private:
    template <class T>
    BF_HD static T sine(T c) {
        const T squared = (T(1) - c) * (T(1) + c), least = static_cast<T>(1e-12);
        return std::sqrt(squared > least ? squared : least);
    }
};

/// ArcFace: cos(theta + m).
BF_HD Margin arcface(double scale = 64, double m = 0.5) { return {MarginKind::arcface, scale, 1, m, 0}; }
/// CosFace: cos(theta) - m.
BF_HD Margin cosface(double scale = 64, double m = 0.4) { return {MarginKind::cosface, scale, 1, 0, m}; }
/// AdaFace with the margins of a mean norm; a MarginHead sets those of each row from m.
BF_HD Margin adaface(double scale = 64, double m = 0.4) { return {MarginKind::adaface, scale, 1, 0, m}; }
/// cos(m1 theta + m2) - m3.
BF_HD Margin combined_margin(double scale, double m1, double m2, double m3) {
    return {MarginKind::combined, scale, m1, m2, m3};
}
/// SphereFace's monotone psi with an integer m.
BF_HD Margin sphereface(double scale = 64, int m = 4) {
    return {MarginKind::sphereface, scale, static_cast<double>(m), 0, 0};
}
/// Plain normalised softmax.
BF_HD Margin normalized_softmax(double scale = 64) { return {MarginKind::softmax, scale, 1, 0, 0}; }

}  // namespace bf
