#pragma once
#include <cmath>

#include "bf/core/parallel.hpp"
#include "bf/kernels/table.hpp"

// CPU: batch norm and PReLU. Channels are innermost, so each is a pass over rows [M, C] that vectorises over C.
// Rows are cut into chunks of about 64 KiB; per-channel sums of the chunks are joined in order.

namespace bf::cpu {

/// Rows a chunk: 64 KiB of elements, and not more than 512 chunks in all.
inline std::int64_t chunk_rows(std::int64_t rows, std::int64_t channels) {
    return std::max<std::int64_t>({1, 16384 / std::max<std::int64_t>(1, channels), (rows + 511) / 512});
}

/// body(begin, end, first, second) adds the sums of rows [begin, end) to two per-channel arrays that start at zero;
/// join(c, sum of first, sum of second) gets the totals.
template <class T, class Body, class Join>
void sum_channels(std::int64_t rows, std::int64_t channels, Body&& body, Join&& join) {
    const std::int64_t chunk = chunk_rows(rows, channels), chunks = (rows + chunk - 1) / chunk;
    const Tensor partial = Tensor::empty({chunks, 2, channels}, {.dtype = dtype_of<T>});
    T* sums = partial.data<T>();
    parallel_for(rows, chunk, [&](std::int64_t begin, std::int64_t end) {
        T* first = sums + begin / chunk * 2 * channels;
        std::fill_n(first, 2 * channels, T(0));
        body(begin, end, first, first + channels);
    });
    for (std::int64_t c = 0; c < channels; ++c) {
        double a = 0, b = 0;
        for (std::int64_t i = 0; i < chunks; ++i) {
            a += static_cast<double>(sums[2 * i * channels + c]);
            b += static_cast<double>(sums[(2 * i + 1) * channels + c]);
        }
        join(c, a, b);
    }
}

inline void inverse_std(Context&, const Tensor& variance, double epsilon, const Tensor& y) {
    visit_real(y.dtype(), "batch_norm", [&]<class T>() {
        const T* in = variance.data<T>();
        T* out = y.data<T>();
        for (std::int64_t c = 0; c < y.numel(); ++c)
            out[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(in[c]) + epsilon));
    });
}

inline void batch_norm_eval(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                            const Tensor& inverse_std, const Tensor& y) {
    visit_real(x.dtype(), "batch_norm", [&]<class T>() {
        const Tensor rows = x.channel_rows();
        const std::int64_t channels = rows.dim(1);
        const T *in = x.data<T>(), *g = gamma.data<T>(), *b = beta.data<T>(), *mu = mean.data<T>(),
                *inv = inverse_std.data<T>();
        T* out = y.data<T>();
        // y = scale x + shift
        const Tensor affine = Tensor::empty({2, channels}, {.dtype = x.dtype()});
        T *scale = affine.data<T>(), *shift = scale + channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            scale[c] = g[c] * inv[c];
            shift[c] = b[c] - mu[c] * scale[c];
        }
        parallel_for(rows.dim(0), chunk_rows(rows.dim(0), channels), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const T* row = in + r * channels;
                T* to = out + r * channels;
                for (std::int64_t c = 0; c < channels; ++c) to[c] = row[c] * scale[c] + shift[c];
            }
        });
    });
}

inline void batch_norm_train(Context& ctx, const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon,
                             const Tensor& y, const Tensor& mean, const Tensor& inverse_std, double momentum,
                             const Tensor& running_mean, const Tensor& running_var) {
    visit_real(x.dtype(), "batch_norm", [&]<class T>() {
        const Tensor rows = x.channel_rows();
        const std::int64_t m = rows.dim(0), channels = rows.dim(1);
        const T* in = x.data<T>();
        T *mu = mean.data<T>(), *inv = inverse_std.data<T>();
        // One pass over memory: a chunk's sum, then its squared deviations while it is in cache (Chan et al. 1979).
        const std::int64_t chunk = chunk_rows(m, channels), chunks = (m + chunk - 1) / chunk;
        const Tensor partial = Tensor::empty({chunks, 2, channels}, {.dtype = x.dtype()});
        T* parts = partial.data<T>();
        parallel_for(m, chunk, [&](std::int64_t begin, std::int64_t end) {
            T *center = parts + begin / chunk * 2 * channels, *squares = center + channels;
            std::fill_n(center, 2 * channels, T(0));
            for (std::int64_t r = begin; r < end; ++r)
                for (std::int64_t c = 0; c < channels; ++c) center[c] += in[r * channels + c];
            const T share = T(1) / static_cast<T>(end - begin);
            for (std::int64_t c = 0; c < channels; ++c) center[c] *= share;
            for (std::int64_t r = begin; r < end; ++r)
                for (std::int64_t c = 0; c < channels; ++c) {
                    const T d = in[r * channels + c] - center[c];
                    squares[c] += d * d;
                }
        });
        for (std::int64_t c = 0; c < channels; ++c) {
            double count = 0, center = 0, squares = 0;
            for (std::int64_t i = 0; i < chunks; ++i) {
                const double size = static_cast<double>(std::min(chunk, m - i * chunk));
                const double d = static_cast<double>(parts[2 * i * channels + c]) - center;
                const double total = count + size;
                center += d * size / total;
                squares += static_cast<double>(parts[(2 * i + 1) * channels + c]) + d * d * count * size / total;
                count = total;
            }
            mu[c] = static_cast<T>(center);
            inv[c] = static_cast<T>(1 / std::sqrt(squares / count + epsilon));
            if (running_mean.defined()) {  // the running variance is the unbiased one, as in PyTorch
                T &rm = running_mean.data<T>()[c], &rv = running_var.data<T>()[c];
                const double unbiased = squares / std::max(1.0, count - 1);
                rm = static_cast<T>((1 - momentum) * static_cast<double>(rm) + momentum * center);
                rv = static_cast<T>((1 - momentum) * static_cast<double>(rv) + momentum * unbiased);
            }
        }
    });
    batch_norm_eval(ctx, x, gamma, beta, mean, inverse_std, y);
}

/// Sums of dy and of dy xhat per channel: the gradients of beta and gamma.
template <class T>
void batch_norm_sums(const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& inverse_std,
                     const Tensor& dgamma, const Tensor& dbeta) {
    const Tensor rows = x.channel_rows();
    const std::int64_t channels = rows.dim(1);
    const T *in = x.data<T>(), *g = dy.data<T>(), *mu = mean.data<T>(), *inv = inverse_std.data<T>();
    T *dg = dgamma.data<T>(), *db = dbeta.data<T>();
    sum_channels<T>(
        rows.dim(0), channels,
        [&](std::int64_t begin, std::int64_t end, T* sum, T* dot) {
            for (std::int64_t r = begin; r < end; ++r) {
                const T *row = in + r * channels, *grad = g + r * channels;
                for (std::int64_t c = 0; c < channels; ++c) {
                    sum[c] += grad[c];
                    dot[c] += grad[c] * (row[c] - mu[c]);
                }
            }
        },
        [&](std::int64_t c, double sum, double dot) {
            db[c] = static_cast<T>(sum);
            dg[c] = static_cast<T>(dot * static_cast<double>(inv[c]));
        });
}

inline void batch_norm_train_dx(Context&, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& mean,
                                const Tensor& inverse_std, const Tensor& dx, const Tensor& dgamma,
                                const Tensor& dbeta) {
    visit_real(x.dtype(), "batch_norm", [&]<class T>() {
        batch_norm_sums<T>(x, dy, mean, inverse_std, dgamma, dbeta);
        const Tensor rows = x.channel_rows();
        const std::int64_t m = rows.dim(0), channels = rows.dim(1);
        const T *in = x.data<T>(), *g = dy.data<T>(), *ga = gamma.data<T>(), *mu = mean.data<T>(),
                *inv = inverse_std.data<T>(), *dg = dgamma.data<T>(), *db = dbeta.data<T>();
        T* d = dx.data<T>();
        // dx = gamma inv (dy - mean(dy) - xhat mean(dy xhat)) = a dy + b x + c per channel
        const Tensor factors = Tensor::empty({3, channels}, {.dtype = x.dtype()});
        T *fa = factors.data<T>(), *fb = fa + channels, *fc = fb + channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            fa[c] = ga[c] * inv[c];
            fb[c] = -fa[c] * inv[c] * dg[c] / static_cast<T>(m);
            fc[c] = -fa[c] * db[c] / static_cast<T>(m) - fb[c] * mu[c];
        }
        parallel_for(m, chunk_rows(m, channels), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const T *row = in + r * channels, *grad = g + r * channels;
                T* to = d + r * channels;
                for (std::int64_t c = 0; c < channels; ++c) to[c] = fa[c] * grad[c] + fb[c] * row[c] + fc[c];
            }
        });
    });
}

inline void batch_norm_eval_dx(Context&, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& mean,
                               const Tensor& inverse_std, const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
    visit_real(x.dtype(), "batch_norm", [&]<class T>() {
        batch_norm_sums<T>(x, dy, mean, inverse_std, dgamma, dbeta);
        const Tensor rows = x.channel_rows();
        const std::int64_t channels = rows.dim(1);
        const T *g = dy.data<T>(), *ga = gamma.data<T>(), *inv = inverse_std.data<T>();
        T* d = dx.data<T>();
        parallel_for(rows.dim(0), chunk_rows(rows.dim(0), channels), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r)
                for (std::int64_t c = 0; c < channels; ++c)
                    d[r * channels + c] = g[r * channels + c] * (ga[c] * inv[c]);
        });
    });
}

inline void prelu(Context&, const Tensor& x, const Tensor& slope, const Tensor& y) {
    visit_real(x.dtype(), "prelu", [&]<class T>() {
        const Tensor rows = x.channel_rows();
        const std::int64_t channels = rows.dim(1);
        const T *in = x.data<T>(), *a = slope.data<T>();
        T* out = y.data<T>();
        // both branches are computed and one is chosen: a branch would keep the loop from vectorising
        parallel_for(rows.dim(0), chunk_rows(rows.dim(0), channels), [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const T* row = in + r * channels;
                T* to = out + r * channels;
                for (std::int64_t c = 0; c < channels; ++c) {
                    const T scaled = a[c] * row[c];
                    to[c] = row[c] > T(0) ? row[c] : scaled;
                }
            }
        });
    });
}

inline void prelu_dx(Context&, const Tensor& x, const Tensor& slope, const Tensor& dy, const Tensor& dx,
                     const Tensor& dslope) {
    visit_real(x.dtype(), "prelu", [&]<class T>() {
        const Tensor rows = x.channel_rows();
        const std::int64_t channels = rows.dim(1);
        const T *in = x.data<T>(), *a = slope.data<T>(), *g = dy.data<T>();
        T *d = dx.data<T>(), *da = dslope.data<T>();
        sum_channels<T>(
            rows.dim(0), channels,
            [=](std::int64_t begin, std::int64_t end, T* sum, T*) {
                for (std::int64_t r = begin; r < end; ++r) {
                    const T *row = in + r * channels, *grad = g + r * channels;
                    T* to = d + r * channels;
                    for (std::int64_t c = 0; c < channels; ++c) {
                        const T scaled = a[c] * grad[c], share = grad[c] * row[c];
                        to[c] = row[c] > T(0) ? grad[c] : scaled;
                        sum[c] += row[c] > T(0) ? T(0) : share;
                    }
                }
            },
            [&](std::int64_t c, double sum, double) { da[c] = static_cast<T>(sum); });
    });
}

}  // namespace bf::cpu
