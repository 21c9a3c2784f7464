#pragma once
#include "bf/base/macros.hpp"

// Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, "Fast algorithms for convolutional neural networks",
// CVPR 2016. Y = A^T [(G g G^T) . (B^T d B)] A on 6x6 input tiles and 4x4 output tiles. Each function transforms one
// line of six, four or three values (numbers or vectors of numbers); applying it to columns, then rows, gives the
// two-dimensional transform.

namespace bf::math {

/// B^T d: six inputs to six.
template <class V>
BF_HD void winograd_input(const V* d, V* out) {
    const V p = d[4] - d[2] * 4.0f, q = d[3] - d[1] * 4.0f, r = d[4] - d[2], s = (d[3] - d[1]) * 2.0f;
    out[0] = d[0] * 4.0f - d[2] * 5.0f + d[4];
    out[1] = p + q;
    out[2] = p - q;
    out[3] = r + s;
    out[4] = r - s;
    out[5] = d[1] * 4.0f - d[3] * 5.0f + d[5];
}

/// G g: three weights to six. S is the scalar type of V.
template <class V, class S>
BF_HD void winograd_weight(const V* g, V* out, S) {
    const S sixth = S(1) / S(6), twelfth = S(1) / S(12), quarter = S(0.25);
    const V even = (g[0] + g[2]) * sixth, odd = g[1] * sixth;
    const V far = g[0] * (twelfth / S(2)) + g[2] * sixth, mid = g[1] * twelfth;
    out[0] = g[0] * quarter;
    out[1] = -even - odd;
    out[2] = odd - even;
    out[3] = far + mid;
    out[4] = far - mid;
    out[5] = g[2];
}

/// G^T m: six to three, the gradient of winograd_weight.
template <class V, class S>
BF_HD void winograd_weight_gradient(const V* m, V* out, S) {
    const S sixth = S(1) / S(6), twelfth = S(1) / S(12), quarter = S(0.25);
    const V sum = m[1] + m[2], far = m[3] + m[4];
    out[0] = m[0] * quarter - sum * sixth + far * (twelfth / S(2));
    out[1] = (m[2] - m[1]) * sixth + (m[3] - m[4]) * twelfth;
    out[2] = (far - sum) * sixth + m[5];
}

/// A^T m: six products to four outputs.
template <class V>
BF_HD void winograd_output(const V* m, V* out) {
    const V near = m[1] + m[2], near_diff = m[1] - m[2], far = m[3] + m[4], far_diff = m[3] - m[4];
    out[0] = m[0] + near + far;
    out[1] = near_diff + far_diff * 2.0f;
    out[2] = near + far * 4.0f;
    out[3] = near_diff + far_diff * 8.0f + m[5];
}

/// A y: four output gradients to six.
template <class V>
BF_HD void winograd_output_gradient(const V* y, V* out) {
    const V even = y[0] + y[2], odd = y[1] + y[3];
    const V even4 = y[0] + y[2] * 4.0f, odd8 = y[1] * 2.0f + y[3] * 8.0f;
    out[0] = y[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even4 + odd8;
    out[4] = even4 - odd8;
    out[5] = y[3];
}

}  // namespace bf::math
