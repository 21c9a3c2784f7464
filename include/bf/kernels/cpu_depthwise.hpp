#pragma once
#include "bf/core/parallel.hpp"
#include "bf/kernels/table.hpp"

// CPU: convolutions of which each channel, or each few, has its own kernel: loops over channels instead of products.

namespace bf::cpu {

inline bool is_depthwise(const ConvGeometry& g) { return g.groups > 1 && g.groups == g.c_in && g.c_out == g.c_in; }

/// Groups of 2 to 4 channels in and out: products of such matrices cost more than they compute.
inline bool has_small_groups(const ConvGeometry& g) {
    return g.groups > 1 && g.c_in == g.c_out && g.c_in / g.groups >= 2 && g.c_in / g.groups <= 4;
}

/// body(row of the block, tap, input pixel or -1) for output pixels [begin, end).
template <class F>
void for_taps(const ConvGeometry& g, std::int64_t begin, std::int64_t end, F&& body) {
    const std::int64_t wo = g.w_out(), plane = g.h_out() * wo;
    for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t n = r / plane, oy = r % plane / wo, ox = r % wo;
        const std::int64_t y0 = oy * g.stride - g.pad, x0 = ox * g.stride - g.pad;
        std::int64_t tap = 0;
        for (std::int64_t y = y0; y < y0 + g.kernel_h; ++y)
            for (std::int64_t x = x0; x < x0 + g.kernel_w; ++x, ++tap)
                body(r - begin, tap, y >= 0 && y < g.h && x >= 0 && x < g.w ? (n * g.h + y) * g.w + x : -1);
    }
}

/// Depthwise: weights turned to [taps, C], then multiply-adds that vectorise over channels.
template <class T>
Tensor depthwise_weights(const ConvGeometry& g, const T* w) {
    const std::int64_t taps = g.kernel_h * g.kernel_w;
    const Tensor turned = Tensor::empty({taps, g.c_in}, {.dtype = dtype_of<T>});
    for (std::int64_t k = 0; k < taps; ++k)
        for (std::int64_t c = 0; c < g.c_in; ++c) turned.data<T>()[k * g.c_in + c] = w[c * taps + k];
    return turned;
}
template <class T>
void depthwise_forward(const ConvGeometry& g, const T* x, const T* w, T* y) {
    const Tensor turned = depthwise_weights(g, w);
    const T* u = turned.data<T>();
    parallel_for(g.n * g.h_out() * g.w_out(), 64, [&](std::int64_t begin, std::int64_t end) {
        std::fill(y + begin * g.c_out, y + end * g.c_out, T(0));
        for_taps(g, begin, end, [&](std::int64_t row, std::int64_t tap, std::int64_t pixel) {
            if (pixel < 0) return;
            T* to = y + (begin + row) * g.c_out;
            for (std::int64_t c = 0; c < g.c_in; ++c) to[c] += x[pixel * g.c_in + c] * u[tap * g.c_in + c];
        });
    });
}
template <class T>
void depthwise_dx(const ConvGeometry& g, const T* dy, const T* w, T* dx) {
    const Tensor turned = depthwise_weights(g, w);
    const T* u = turned.data<T>();
    const std::int64_t plane = g.h_out() * g.w_out();
    parallel_for(g.n, 1, [&](std::int64_t n, std::int64_t) {
        std::fill_n(dx + n * g.h * g.w * g.c_in, g.h * g.w * g.c_in, T(0));
        for_taps(g, n * plane, (n + 1) * plane, [&](std::int64_t row, std::int64_t tap, std::int64_t pixel) {
            if (pixel < 0) return;
            const T* from = dy + (n * plane + row) * g.c_out;
            for (std::int64_t c = 0; c < g.c_in; ++c) dx[pixel * g.c_in + c] += from[c] * u[tap * g.c_in + c];
        });
    });
}
template <class T>
void depthwise_dw(const ConvGeometry& g, const T* x, const T* dy, T* dw) {
    const std::int64_t plane = g.h_out() * g.w_out(), taps = g.kernel_h * g.kernel_w;
    const Tensor partial = Tensor::empty({g.n, taps, g.c_in}, {.dtype = dtype_of<T>});
    T* sums = partial.data<T>();
    std::memset(partial.raw(), 0, partial.bytes());
    parallel_for(g.n, 1, [&](std::int64_t n, std::int64_t) {
        for_taps(g, n * plane, (n + 1) * plane, [&](std::int64_t row, std::int64_t tap, std::int64_t pixel) {
            if (pixel < 0) return;
            const T* from = dy + (n * plane + row) * g.c_out;
            T* to = sums + (n * taps + tap) * g.c_in;
            for (std::int64_t c = 0; c < g.c_in; ++c) to[c] += from[c] * x[pixel * g.c_in + c];
        });
    });
    for (std::int64_t c = 0; c < g.c_in; ++c)
        for (std::int64_t k = 0; k < taps; ++k) {
            T total = 0;
            for (std::int64_t n = 0; n < g.n; ++n) total += sums[(n * taps + k) * g.c_in + c];
            dw[c * taps + k] = total;
        }
}

/// A convolution with groups of m channels is the sum of m depthwise ones, of the images with the channels turned by
/// 0 .. m - 1 places inside each group. One of them: its weights, and images turned there and back.
template <class T>
struct TurnedGroups {
    std::int64_t m, turn, channels, taps;

    /// The channel of x that meets channel c of y.
    std::int64_t partner(std::int64_t c) const { return c - c % m + (c % m + turn) % m; }
    /// Where the weights between c and its partner stand in [C, m, taps].
    std::int64_t weights_at(std::int64_t c) const { return (c * m + (c % m + turn) % m) * taps; }

    Tensor weights(const T* w) const {
        const Tensor own = Tensor::empty({channels, taps}, {.dtype = dtype_of<T>});
        for (std::int64_t c = 0; c < channels; ++c) std::copy_n(w + weights_at(c), taps, own.data<T>() + c * taps);
        return own;
    }
    /// f(offset of a pixel) for all pixels, in tasks.
    template <class F>
    void for_pixels(std::int64_t pixels, F&& f) const {
        parallel_for(pixels, 256, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t p = begin; p < end; ++p) f(p * channels);
        });
    }
    Tensor turned(const T* x, std::int64_t pixels) const {
        const Tensor out = Tensor::empty({pixels, channels}, {.dtype = dtype_of<T>});
        for_pixels(pixels, [&, to = out.data<T>()](std::int64_t at) {
            for (std::int64_t c = 0; c < channels; ++c) to[at + c] = x[at + partner(c)];
        });
        return out;
    }
};
/// f(turn) for each of the depthwise convolutions.
template <class T, class F>
void for_turns(const ConvGeometry& g, F&& f) {
    const std::int64_t m = g.c_in / g.groups;
    for (std::int64_t turn = 0; turn < m; ++turn) f(TurnedGroups<T>{m, turn, g.c_in, g.kernel_h * g.kernel_w});
}

template <class T>
void small_groups_forward(const ConvGeometry& g, const T* x, const T* w, T* y) {
    const std::int64_t pixels = g.n * g.h_out() * g.w_out();
    const Tensor part = Tensor::empty({pixels, g.c_out}, {.dtype = dtype_of<T>});
    for_turns<T>(g, [&](const TurnedGroups<T>& t) {
        T* to = t.turn == 0 ? y : part.data<T>();
        depthwise_forward(g, t.turned(x, g.n * g.h * g.w).template data<T>(), t.weights(w).template data<T>(), to);
        if (t.turn > 0)
            t.for_pixels(pixels, [&](std::int64_t at) {
                for (std::int64_t c = at; c < at + g.c_out; ++c) y[c] += to[c];
            });
    });
}
template <class T>
void small_groups_dx(const ConvGeometry& g, const T* dy, const T* w, T* dx) {
    const std::int64_t pixels = g.n * g.h * g.w;
    const Tensor part = Tensor::empty({pixels, g.c_in}, {.dtype = dtype_of<T>});
    const T* from = part.data<T>();
    std::fill_n(dx, pixels * g.c_in, T(0));
    for_turns<T>(g, [&](const TurnedGroups<T>& t) {
        depthwise_dx(g, dy, t.weights(w).template data<T>(), part.data<T>());
        t.for_pixels(pixels, [&](std::int64_t at) {
            for (std::int64_t c = 0; c < g.c_in; ++c) dx[at + t.partner(c)] += from[at + c];
        });
    });
}
template <class T>
void small_groups_dw(const ConvGeometry& g, const T* x, const T* dy, T* dw) {
    for_turns<T>(g, [&](const TurnedGroups<T>& t) {
        const Tensor own = Tensor::empty({g.c_in, t.taps}, {.dtype = dtype_of<T>});
        depthwise_dw(g, t.turned(x, g.n * g.h * g.w).template data<T>(), dy, own.data<T>());
        for (std::int64_t c = 0; c < g.c_in; ++c) std::copy_n(own.data<T>() + c * t.taps, t.taps, dw + t.weights_at(c));
    });
}

}  // namespace bf::cpu
