#pragma once
#include "bf/kernels/cpu_winograd.hpp"

// CPU: convolution over nhwc images, weights [O, C / groups, kh, kw]. Direct: patches of a block of output pixels are
// gathered (im2col) and multiplied by Eigen. Depthwise has its own loops, which small groups use too.

namespace bf::cpu {

inline bool use_winograd(const ConvGeometry& g, ConvAlgorithm algorithm, DType dtype) {
    const bool possible = g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 && g.groups == 1 && g.pad <= 2;
    if (algorithm == ConvAlgorithm::automatic)
        return possible && dtype == DType::f32 && g.pad == 1 && g.c_in >= 16 && g.c_out >= 16;
    return possible && algorithm == ConvAlgorithm::winograd;
}
inline bool is_depthwise(const ConvGeometry& g) { return g.groups > 1 && g.groups == g.c_in && g.c_out == g.c_in; }

/// Groups of 2 to 4 channels in and out: products of such matrices cost more than they compute.
inline bool has_small_groups(const ConvGeometry& g) {
    return g.groups > 1 && g.c_in == g.c_out && g.c_in / g.groups >= 2 && g.c_in / g.groups <= 4;
}

/// Channels of one group and the length of its patch.
struct GroupSizes {
    std::int64_t in, out, patch, rows, block;

    GroupSizes(const ConvGeometry& g, std::size_t element)
        : in(g.c_in / g.groups),
          out(g.c_out / g.groups),
          patch(g.kernel_h * g.kernel_w * in),
          rows(g.n * g.h_out() * g.w_out()) {
        // about 768 KiB of patches a block, so that it stays in the second-level cache
        block =
            std::clamp<std::int64_t>((768 << 10) / (patch * static_cast<std::int64_t>(element)), 16, 1024) / 16 * 16;
    }
};

/// Weights of group q as [kh * kw * C, O], the order of a patch.
template <class T>
void patch_weights(const ConvGeometry& g, const GroupSizes& s, std::int64_t q, const T* w, T* out) {
    const std::int64_t taps = g.kernel_h * g.kernel_w;
    const T* from = w + q * s.out * s.in * taps;
    for (std::int64_t o = 0; o < s.out; ++o)
        for (std::int64_t c = 0; c < s.in; ++c)
            for (std::int64_t k = 0; k < taps; ++k) out[(k * s.in + c) * s.out + o] = from[(o * s.in + c) * taps + k];
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

/// body(row of the block, input pixel or -1) for one tap.
template <class F>
void for_tap(const ConvGeometry& g, std::int64_t begin, std::int64_t end, std::int64_t tap, F&& body) {
    const std::int64_t wo = g.w_out(), plane = g.h_out() * wo;
    for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t n = r / plane, y = r % plane / wo * g.stride - g.pad + tap / g.kernel_w,
                           x = r % wo * g.stride - g.pad + tap % g.kernel_w;
        body(r - begin, y >= 0 && y < g.h && x >= 0 && x < g.w ? (n * g.h + y) * g.w + x : -1);
    }
}

template <class T>
void gather_patches(const ConvGeometry& g, const GroupSizes& s, std::int64_t q, const T* x, std::int64_t begin,
                    std::int64_t end, T* patches) {
    for_taps(g, begin, end, [&](std::int64_t row, std::int64_t tap, std::int64_t pixel) {
        T* to = patches + row * s.patch + tap * s.in;
        if (pixel < 0)
            std::fill_n(to, s.in, T(0));
        else
            std::copy_n(x + pixel * g.c_in + q * s.in, s.in, to);
    });
}

template <class T>
void direct_forward(const ConvGeometry& g, const T* x, const T* w, T* y) {
    const GroupSizes s(g, sizeof(T));
    const Tensor weights = Tensor::empty({s.patch, s.out}, {.dtype = dtype_of<T>});
    const bool plain = g.kernel_h == 1 && g.kernel_w == 1 && g.stride == 1 && g.pad == 0;  // patches are the pixels
    for (std::int64_t q = 0; q < g.groups; ++q) {
        patch_weights(g, s, q, w, weights.data<T>());
        const ConstMatrixView<T> b(weights.data<T>(), s.patch, s.out, Eigen::OuterStride<>(s.out));
        parallel_for(s.rows, s.block, [&](std::int64_t begin, std::int64_t end) {
            MatrixView<T> c(y + begin * g.c_out + q * s.out, end - begin, s.out, Eigen::OuterStride<>(g.c_out));
            if (plain) {
                c.noalias() =
                    ConstMatrixView<T>(x + begin * g.c_in + q * s.in, end - begin, s.in, Eigen::OuterStride<>(g.c_in)) *
                    b;
                return;
            }
            const Tensor patches = Tensor::empty({s.block, s.patch}, {.dtype = dtype_of<T>});
            gather_patches(g, s, q, x, begin, end, patches.data<T>());
            c.noalias() =
                ConstMatrixView<T>(patches.data<T>(), end - begin, s.patch, Eigen::OuterStride<>(s.patch)) * b;
        });
    }
}

/// One task an image, because patches of neighbouring outputs overlap.
template <class T>
void direct_dx(const ConvGeometry& g, const T* dy, const T* w, T* dx) {
    const GroupSizes s(g, sizeof(T));
    const Tensor weights = Tensor::empty({s.patch, s.out}, {.dtype = dtype_of<T>});
    const std::int64_t plane = g.h_out() * g.w_out();
    std::fill_n(dx, g.n * g.h * g.w * g.c_in, T(0));
    for (std::int64_t q = 0; q < g.groups; ++q) {
        patch_weights(g, s, q, w, weights.data<T>());
        const ConstMatrixView<T> b(weights.data<T>(), s.patch, s.out, Eigen::OuterStride<>(s.out));
        parallel_for(g.n, 1, [&](std::int64_t n, std::int64_t) {
            const Tensor patches = Tensor::empty({s.block, s.patch}, {.dtype = dtype_of<T>});
            T* p = patches.data<T>();
            for (std::int64_t begin = n * plane; begin < (n + 1) * plane; begin += s.block) {
                const std::int64_t end = std::min((n + 1) * plane, begin + s.block);
                MatrixView<T>(p, end - begin, s.patch, Eigen::OuterStride<>(s.patch)).noalias() =
                    ConstMatrixView<T>(dy + begin * g.c_out + q * s.out, end - begin, s.out,
                                       Eigen::OuterStride<>(g.c_out)) *
                    b.transpose();
                for_taps(g, begin, end, [&](std::int64_t row, std::int64_t tap, std::int64_t pixel) {
                    if (pixel < 0) return;
                    const T* from = p + row * s.patch + tap * s.in;
                    T* to = dx + pixel * g.c_in + q * s.in;
                    for (std::int64_t c = 0; c < s.in; ++c) to[c] += from[c];
                });
            }
        });
    }
}

/// Few channels: up to eight partial sums over fixed ranges of output pixels, added in order.
template <class T>
void direct_dw_patches(const ConvGeometry& g, const T* x, const T* dy, T* dw) {
    const GroupSizes s(g, sizeof(T));
    const std::int64_t cells = s.patch * s.out, taps = g.kernel_h * g.kernel_w;
    const std::int64_t blocks = (s.rows + s.block - 1) / s.block;
    const std::int64_t parts = std::clamp<std::int64_t>((48 << 20) / (cells * static_cast<std::int64_t>(sizeof(T))), 1,
                                                        std::clamp<std::int64_t>(blocks, 1, 8));
    const Tensor partial = Tensor::empty({parts, s.patch, s.out}, {.dtype = dtype_of<T>});
    T* sums = partial.data<T>();
    for (std::int64_t q = 0; q < g.groups; ++q) {
        std::memset(partial.raw(), 0, partial.bytes());
        parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
            const Tensor patches = Tensor::empty({s.block, s.patch}, {.dtype = dtype_of<T>});
            T* p = patches.data<T>();
            MatrixView<T> sum(sums + part * cells, s.patch, s.out, Eigen::OuterStride<>(s.out));
            for (std::int64_t i = blocks * part / parts; i < blocks * (part + 1) / parts; ++i) {
                const std::int64_t begin = i * s.block, end = std::min(s.rows, begin + s.block);
                gather_patches(g, s, q, x, begin, end, p);
                sum.noalias() +=
                    ConstMatrixView<T>(p, end - begin, s.patch, Eigen::OuterStride<>(s.patch)).transpose() *
                    ConstMatrixView<T>(dy + begin * g.c_out + q * s.out, end - begin, s.out,
                                       Eigen::OuterStride<>(g.c_out));
            }
        });
        for (std::int64_t o = 0; o < s.out; ++o)
            for (std::int64_t c = 0; c < s.in; ++c)
                for (std::int64_t k = 0; k < taps; ++k) {
                    T total = 0;
                    for (std::int64_t part = 0; part < parts; ++part)
                        total += sums[part * cells + (k * s.in + c) * s.out + o];
                    dw[((q * s.out + o) * s.in + c) * taps + k] = total;
                }
    }
}

/// Many channels: one task a tap and block of input channels; each gathers its pixels and multiplies them with dy.
template <class T>
void direct_dw_taps(const ConvGeometry& g, const T* x, const T* dy, T* dw) {
    const GroupSizes s(g, sizeof(T));
    const std::int64_t taps = g.kernel_h * g.kernel_w, strip = 64, strips = (s.in + strip - 1) / strip;
    constexpr std::int64_t rows = 1024;
    for (std::int64_t q = 0; q < g.groups; ++q)
        parallel_for(taps * strips, 1, [&](std::int64_t task, std::int64_t) {
            const std::int64_t tap = task / strips, first = task % strips * strip,
                               count = std::min(strip, s.in - first);
            const Tensor pixels = Tensor::empty({rows, count}, {.dtype = dtype_of<T>}),
                         sums = Tensor::empty({count, s.out}, {.dtype = dtype_of<T>});
            T* p = pixels.data<T>();
            MatrixView<T> sum(sums.data<T>(), count, s.out, Eigen::OuterStride<>(s.out));
            sum.setZero();
            for (std::int64_t begin = 0; begin < s.rows; begin += rows) {
                const std::int64_t end = std::min(s.rows, begin + rows);
                for_tap(g, begin, end, tap, [&](std::int64_t row, std::int64_t pixel) {
                    if (pixel < 0)
                        std::fill_n(p + row * count, count, T(0));
                    else
                        std::copy_n(x + pixel * g.c_in + q * s.in + first, count, p + row * count);
                });
                sum.noalias() += ConstMatrixView<T>(p, end - begin, count, Eigen::OuterStride<>(count)).transpose() *
                                 ConstMatrixView<T>(dy + begin * g.c_out + q * s.out, end - begin, s.out,
                                                    Eigen::OuterStride<>(g.c_out));
            }
            for (std::int64_t o = 0; o < s.out; ++o)
                for (std::int64_t c = 0; c < count; ++c)
                    dw[((q * s.out + o) * s.in + first + c) * taps + tap] = sum(c, o);
        });
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

inline void conv2d(Context&, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& w,
                   const Tensor& y) {
    visit_real(x.dtype(), "conv2d", [&]<class T>() {
        if (y.numel() == 0) return;
        if (use_winograd(g, algorithm, x.dtype()))
            winograd_forward(g, x.data<T>(), w.data<T>(), false, y.data<T>());
        else if (is_depthwise(g))
            depthwise_forward(g, x.data<T>(), w.data<T>(), y.data<T>());
        else if (has_small_groups(g))
            small_groups_forward(g, x.data<T>(), w.data<T>(), y.data<T>());
        else
            direct_forward(g, x.data<T>(), w.data<T>(), y.data<T>());
    });
}

inline void conv2d_dx(Context&, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& dy, const Tensor& w,
                      const Tensor& dx) {
    visit_real(dy.dtype(), "conv2d", [&]<class T>() {
        if (dx.numel() == 0) return;
        if (use_winograd(g, algorithm, dy.dtype())) {
            // the input gradient is a forward pass over dy with the kernel turned and the padding mirrored
            const ConvGeometry back{.n = g.n,
                                    .c_in = g.c_out,
                                    .h = g.h_out(),
                                    .w = g.w_out(),
                                    .c_out = g.c_in,
                                    .kernel_h = 3,
                                    .kernel_w = 3,
                                    .stride = 1,
                                    .pad = 2 - g.pad,
                                    .groups = 1};
            winograd_forward(back, dy.data<T>(), w.data<T>(), true, dx.data<T>());
        } else if (is_depthwise(g)) {
            depthwise_dx(g, dy.data<T>(), w.data<T>(), dx.data<T>());
        } else if (has_small_groups(g)) {
            small_groups_dx(g, dy.data<T>(), w.data<T>(), dx.data<T>());
        } else {
            direct_dx(g, dy.data<T>(), w.data<T>(), dx.data<T>());
        }
    });
}

inline void conv2d_dw(Context&, const ConvGeometry& g, ConvAlgorithm algorithm, const Tensor& x, const Tensor& dy,
                      const Tensor& dw) {
    visit_real(x.dtype(), "conv2d", [&]<class T>() {
        if (use_winograd(g, algorithm, x.dtype()))
            winograd_dw(g, x.data<T>(), dy.data<T>(), dw.data<T>());
        else if (is_depthwise(g))
            depthwise_dw(g, x.data<T>(), dy.data<T>(), dw.data<T>());
        else if (has_small_groups(g))
            small_groups_dw(g, x.data<T>(), dy.data<T>(), dw.data<T>());
        else
            g.c_in / g.groups >= 32 ? direct_dw_taps(g, x.data<T>(), dy.data<T>(), dw.data<T>())
                                    : direct_dw_patches(g, x.data<T>(), dy.data<T>(), dw.data<T>());
    });
}

}  // namespace bf::cpu
