#pragma once
#include "bf/math/element.hpp"

// Pooling over nhwc images: index functors, V neighbouring channels of one pixel an index. The backward passes own a
// pixel of the input and go through the windows that hold it, in order, so that nothing is added atomically.

namespace bf::math {

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

/// PoolGeometry with its output sizes, and the two ways through it.
struct PoolWindow {
    std::int64_t n, c, h, w, kernel_h, kernel_w, stride, pad, h_out, w_out;

    /// f(offset into the input, place in the image plane) for the pixels below the window of output o.
    template <class F>
    BF_HD void for_pixels(const PoolPlace& o, const F& f) const {
        const std::int64_t y0 = o.y * stride - pad, x0 = o.x * stride - pad;
        for (std::int64_t iy = larger(0, y0); iy < smaller(h, y0 + kernel_h); ++iy)
            for (std::int64_t ix = larger(0, x0); ix < smaller(w, x0 + kernel_w); ++ix)
                f(((o.n * h + iy) * w + ix) * c + o.c, iy * w + ix);
    }
    /// f(offset into the output) for the windows that hold pixel p of the input.
    template <class F>
    BF_HD void for_windows(const PoolPlace& p, const F& f) const {
        const PoolRange ys = PoolRange::of(p.y, kernel_h, stride, pad, h_out);
        const PoolRange xs = PoolRange::of(p.x, kernel_w, stride, pad, w_out);
        for (std::int64_t oy = ys.begin; oy < ys.end; ++oy)
            for (std::int64_t ox = xs.begin; ox < xs.end; ++ox) f(((p.n * h_out + oy) * w_out + ox) * c + p.c);
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
        g.for_pixels(o, [&](std::int64_t offset, std::int64_t place) {
            T value[V];
            load<V>(x + offset, true, value);
            for (int k = 0; k < V; ++k)
                if (at[k] < 0 || value[k] > best[k]) {
                    best[k] = value[k];
                    at[k] = place;
                }
        });
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
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        g.for_windows(p, [&](std::int64_t offset) {
            T value[V];
            load<V>(dy + offset, true, value);
            for (int k = 0; k < V; ++k)
                if (index[offset + k] == p.y * g.w + p.x) sum[k] += value[k];
        });
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
        g.for_pixels(o, [&](std::int64_t offset, std::int64_t) {
            T value[V];
            load<V>(x + offset, true, value);
            for (int k = 0; k < V; ++k) sum[k] += value[k];
        });
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
        const T share = T(1) / static_cast<T>(g.kernel_h * g.kernel_w);
        T sum[V];
        for (int k = 0; k < V; ++k) sum[k] = T(0);
        g.for_windows(p, [&](std::int64_t offset) {
            T value[V];
            load<V>(dy + offset, true, value);
            for (int k = 0; k < V; ++k) sum[k] += share * value[k];
        });
        store<V>(dx + i * V, true, sum);
    }
};

}  // namespace bf::math
