#pragma once
#include "bf/math/element.hpp"

// Pooling over nhwc images: index functors, V neighbouring channels of one pixel an index. The backward passes own a
// pixel of the input and go through the windows that hold it, in order, so that nothing is added atomically.

namespace bf::math {

/// PoolGeometry with its output sizes.
struct PoolWindow {
    std::int64_t n, c, h, w, kernel_h, kernel_w, stride, pad, h_out, w_out;
};

/// An index split into image, y, x and first channel.
struct PoolPlace {
    std::int64_t n, y, x, c;
    BF_HD static PoolPlace of(std::int64_t i, std::int64_t h, std::int64_t w, std::int64_t lanes, int neighbours) {
        const Division lane = divide(i, lanes), x = divide(lane.quotient, w), y = divide(x.quotient, h);
        return {y.quotient, y.rest, x.rest, lane.rest * neighbours};
    }
};

/// Outputs [begin, end) along one side whose windows hold input position `at`.
struct PoolRange {
    std::int64_t begin, end;
    BF_HD static PoolRange of(std::int64_t at, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                              std::int64_t out) {
        const std::int64_t reach = at + pad - kernel + 1;
        return {reach > 0 ? ceil_div(reach, stride) : 0, smaller(out, (at + pad) / stride + 1)};
    }
};

template <class S, int V>
struct MaxPool {
    using T = Compute<S>;
    PoolWindow g;
    const S* x;
    S* y;
    std::int64_t* index;

    BF_HD std::int64_t indices() const { return g.n * g.h_out * g.w_out * (g.c / V); }
    BF_HD void operator()(std::int64_t i) const {
        const PoolPlace o = PoolPlace::of(i, g.h_out, g.w_out, g.c / V, V);
        T best[V];
        std::int64_t at[V];
        for (int k = 0; k < V; ++k) {
            best[k] = T(0);
            at[k] = -1;
        }
        const std::int64_t y0 = o.y * g.stride - g.pad, x0 = o.x * g.stride - g.pad;
        for (std::int64_t iy = larger(0, y0); iy < smaller(g.h, y0 + g.kernel_h); ++iy)
            for (std::int64_t ix = larger(0, x0); ix < smaller(g.w, x0 + g.kernel_w); ++ix) {
                T value[V];
                load<V>(x + ((o.n * g.h + iy) * g.w + ix) * g.c + o.c, true, value);
                for (int k = 0; k < V; ++k)
                    if (at[k] < 0 || value[k] > best[k]) {
                        best[k] = value[k];
                        at[k] = iy * g.w + ix;
                    }
            }
        store<V>(y + i * V, true, best);
        for (int k = 0; k < V; ++k) index[i * V + k] = at[k];
    }
};

template <class S, int V>
struct MaxPoolGradient {
    using T = Compute<S>;
    PoolWindow g;
    const S* dy;
    const std::int64_t* index;
    S* dx;

    BF_HD std::int64_t indices() const { return g.n * g.h * g.w * (g.c / V); }
    BF_HD void operator()(std::int64_t i) const {
        const PoolPlace p = PoolPlace::of(i, g.h, g.w, g.c / V, V);
        const PoolRange ys = PoolRange::of(p.y, g.kernel_h, g.stride, g.pad, g.h_out);
        const PoolRange xs = PoolRange::of(p.x, g.kernel_w, g.stride, g.pad, g.w_out);
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        for (std::int64_t oy = ys.begin; oy < ys.end; ++oy)
            for (std::int64_t ox = xs.begin; ox < xs.end; ++ox) {
                const std::int64_t at = ((p.n * g.h_out + oy) * g.w_out + ox) * g.c + p.c;
                T value[V];
                load<V>(dy + at, true, value);
                for (int k = 0; k < V; ++k)
                    if (index[at + k] == p.y * g.w + p.x) sum[k] += value[k];
            }
        store<V>(dx + i * V, true, sum);
    }
};

template <class S, int V>
struct AveragePool {
    using T = Compute<S>;
    PoolWindow g;
    const S* x;
    S* y;

    BF_HD std::int64_t indices() const { return g.n * g.h_out * g.w_out * (g.c / V); }
    BF_HD void operator()(std::int64_t i) const {
        const PoolPlace o = PoolPlace::of(i, g.h_out, g.w_out, g.c / V, V);
        const T share = T(1) / static_cast<T>(g.kernel_h * g.kernel_w);
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        const std::int64_t y0 = o.y * g.stride - g.pad, x0 = o.x * g.stride - g.pad;
        for (std::int64_t iy = larger(0, y0); iy < smaller(g.h, y0 + g.kernel_h); ++iy)
            for (std::int64_t ix = larger(0, x0); ix < smaller(g.w, x0 + g.kernel_w); ++ix) {
                T value[V];
                load<V>(x + ((o.n * g.h + iy) * g.w + ix) * g.c + o.c, true, value);
                for (int k = 0; k < V; ++k) sum[k] += value[k];
            }
        for (int k = 0; k < V; ++k) sum[k] *= share;
        store<V>(y + i * V, true, sum);
    }
};

template <class S, int V>
struct AveragePoolGradient {
    using T = Compute<S>;
    PoolWindow g;
    const S* dy;
    S* dx;

    BF_HD std::int64_t indices() const { return g.n * g.h * g.w * (g.c / V); }
    BF_HD void operator()(std::int64_t i) const {
        const PoolPlace p = PoolPlace::of(i, g.h, g.w, g.c / V, V);
        const PoolRange ys = PoolRange::of(p.y, g.kernel_h, g.stride, g.pad, g.h_out);
        const PoolRange xs = PoolRange::of(p.x, g.kernel_w, g.stride, g.pad, g.w_out);
        const T share = T(1) / static_cast<T>(g.kernel_h * g.kernel_w);
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        for (std::int64_t oy = ys.begin; oy < ys.end; ++oy)
            for (std::int64_t ox = xs.begin; ox < xs.end; ++ox) {
                T value[V];
                load<V>(dy + ((p.n * g.h_out + oy) * g.w_out + ox) * g.c + p.c, true, value);
                for (int k = 0; k < V; ++k) sum[k] += share * value[k];
            }
        store<V>(dx + i * V, true, sum);
    }
};

}  // namespace bf::math
