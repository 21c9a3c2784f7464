#pragma once
#include <cmath>

#include "bf/kernels/cpu_simd.hpp"

// CPU: exponentials of whole vectors.

namespace bf::cpu {

/// e^x of each lane. f64: std::exp. f32: e^x = 2^n e^r with |r| <= ln 2 / 2 and a polynomial, relative error
/// below 1.5e-7 for x in [-87, 88]; exactly 1 at 0; 0 for x < -87, the value at 88 for larger ones; NaN stays NaN.
template <class T>
[[gnu::always_inline]] inline Vector<T> exponential(Vector<T> x) {
    if constexpr (std::is_same_v<T, float>) {
        typedef std::int32_t Bits __attribute__((vector_size(vector_bytes)));
        const Vector<float> low = broadcast(-87.0f), high = broadcast(88.0f);
        const Vector<float> in = x > high ? high : x;
        // added to a small number, 1.5 2^23 leaves its nearest integer in the lowest bits
        const Vector<float> shift = broadcast(12582912.0f);
        const Vector<float> shifted = multiply_add<float>(in, broadcast(1.442695041f), shift), n = shifted - shift;
        // ln 2 in two parts, n times the first being exact
        Vector<float> r = multiply_add<float>(n, broadcast(-0.693359375f), in);
        r = multiply_add<float>(n, broadcast(2.12194440e-4f), r);
        // (e^r - 1 - r) / r^2, interpolated at the Chebyshev points
        Vector<float> q = broadcast(0.0013926213f);
        q = multiply_add<float>(q, r, broadcast(0.008363203f));
        q = multiply_add<float>(q, r, broadcast(0.041666554f));
        q = multiply_add<float>(q, r, broadcast(0.16666577f));
        q = multiply_add<float>(q, r, broadcast(0.5f));
        const Vector<float> value = multiply_add<float>(q, r * r, r) + 1.0f;
        const auto power = reinterpret_cast<Vector<float>>((reinterpret_cast<Bits>(shifted) << 23) + (127 << 23));
        return in < low ? Vector<float>{} : value * power;
    } else {
        T values[lanes<T>];
        store(values, x);
        for (T& v : values) v = std::exp(v);
        return load(values);
    }
}

/// The larger of a and b lane by lane; a where b is not a number.
template <class T>
[[gnu::always_inline]] inline Vector<T> larger(Vector<T> a, Vector<T> b) {
    return b > a ? b : a;
}

}  // namespace bf::cpu
