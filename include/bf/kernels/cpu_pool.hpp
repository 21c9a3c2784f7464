#pragma once
#include "bf/kernels/cpu_pointwise.hpp"

// CPU: pooling over nhwc images. Forward tasks own an output row; backward tasks own an image.

namespace bf::cpu {

/// body(input pixel index y * w + x) for each pixel of the window of output (oy, ox) that lies inside the image.
template <class F>
void for_window(const PoolGeometry& g, std::int64_t oy, std::int64_t ox, F&& body) {
    for (std::int64_t y = oy * g.stride - g.pad, y1 = y + g.kernel_h; y < y1; ++y)
        for (std::int64_t x = ox * g.stride - g.pad, x1 = x + g.kernel_w; x < x1; ++x)
            if (y >= 0 && y < g.h && x >= 0 && x < g.w) body(y * g.w + x);
}

inline void max_pool(Context& ctx, const PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& index) {
    if (widened<2>(max_pool, ctx, g, x, y, index)) return;
    visit_real(x.dtype(), "max_pool", [&]<class T>() {
        const T* in = x.data<T>();
        T* out = y.data<T>();
        std::int64_t* at = index.data<std::int64_t>();
        parallel_for(g.n * g.h_out(), 1, [&](std::int64_t task, std::int64_t) {
            const T* image = in + task / g.h_out() * g.h * g.w * g.c;
            for (std::int64_t ox = 0; ox < g.w_out(); ++ox) {
                T* to = out + (task * g.w_out() + ox) * g.c;
                std::int64_t* arg = at + (task * g.w_out() + ox) * g.c;
                std::fill_n(arg, g.c, std::int64_t{-1});
                for_window(g, task % g.h_out(), ox, [&](std::int64_t pixel) {
                    const T* from = image + pixel * g.c;
                    for (std::int64_t c = 0; c < g.c; ++c)
                        if (arg[c] < 0 || from[c] > to[c]) {
                            to[c] = from[c];
                            arg[c] = pixel;
                        }
                });
            }
        });
    });
}

inline void max_pool_dx(Context& ctx, const PoolGeometry& g, const Tensor& dy, const Tensor& index, const Tensor& dx) {
    if (widened<1>(max_pool_dx, ctx, g, dy, index, dx)) return;
    visit_real(dy.dtype(), "max_pool", [&]<class T>() {
        const T* grad = dy.data<T>();
        const std::int64_t* at = index.data<std::int64_t>();
        T* d = dx.data<T>();
        const std::int64_t out_plane = g.h_out() * g.w_out() * g.c, in_plane = g.h * g.w * g.c;
        parallel_for(g.n, 1, [&](std::int64_t n, std::int64_t) {
            std::fill_n(d + n * in_plane, in_plane, T(0));
            for (std::int64_t i = 0; i < out_plane; ++i)
                d[n * in_plane + at[n * out_plane + i] * g.c + i % g.c] += grad[n * out_plane + i];
        });
    });
}

inline void avg_pool(Context& ctx, const PoolGeometry& g, const Tensor& x, const Tensor& y) {
    if (widened<1>(avg_pool, ctx, g, x, y)) return;
    visit_real(x.dtype(), "avg_pool", [&]<class T>() {
        const T* in = x.data<T>();
        T* out = y.data<T>();
        const T share = T(1) / static_cast<T>(g.kernel_h * g.kernel_w);
        parallel_for(g.n * g.h_out(), 1, [&](std::int64_t task, std::int64_t) {
            const T* image = in + task / g.h_out() * g.h * g.w * g.c;
            for (std::int64_t ox = 0; ox < g.w_out(); ++ox) {
                T* to = out + (task * g.w_out() + ox) * g.c;
                std::fill_n(to, g.c, T(0));
                for_window(g, task % g.h_out(), ox, [&](std::int64_t pixel) {
                    for (std::int64_t c = 0; c < g.c; ++c) to[c] += image[pixel * g.c + c];
                });
                for (std::int64_t c = 0; c < g.c; ++c) to[c] *= share;
            }
        });
    });
}

inline void avg_pool_dx(Context& ctx, const PoolGeometry& g, const Tensor& dy, const Tensor& dx) {
    if (widened<1>(avg_pool_dx, ctx, g, dy, dx)) return;
    visit_real(dy.dtype(), "avg_pool", [&]<class T>() {
        const T* grad = dy.data<T>();
        T* d = dx.data<T>();
        const T share = T(1) / static_cast<T>(g.kernel_h * g.kernel_w);
        const std::int64_t out_plane = g.h_out() * g.w_out() * g.c, in_plane = g.h * g.w * g.c;
        parallel_for(g.n, 1, [&](std::int64_t n, std::int64_t) {
            T* image = d + n * in_plane;
            std::fill_n(image, in_plane, T(0));
            for (std::int64_t o = 0; o < g.h_out() * g.w_out(); ++o) {
                const T* from = grad + n * out_plane + o * g.c;
                for_window(g, o / g.w_out(), o % g.w_out(), [&](std::int64_t pixel) {
                    for (std::int64_t c = 0; c < g.c; ++c) image[pixel * g.c + c] += share * from[c];
                });
            }
        });
    });
}

}  // namespace bf::cpu
