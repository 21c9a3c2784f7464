#pragma once
#include <array>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_simd.hpp"
#include "bf/math/norm.hpp"

// CPU: batch norm and PReLU. Channels are innermost, so each is a pass of an op of math/norm.hpp over rows [M, C] that
// vectorises over C. Rows are cut into chunks of about 64 KiB; per-channel sums of the chunks are joined in order.

namespace bf::cpu {

/// Rows a chunk: 64 KiB of elements, and not more than 512 chunks in all.
inline std::int64_t chunk_rows(std::int64_t rows, std::int64_t channels) {
    return std::max<std::int64_t>({1, 16384 / std::max<std::int64_t>(1, channels), (rows + 511) / 512});
}

/// f(c) for all channels, each with elements of its own: told so, g++ vectorises without the alias checks that it gives
/// up on beyond ten.
template <class F>
void each_channel(std::int64_t channels, F&& f) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep
#endif
    for (std::int64_t c = 0; c < channels; ++c) f(c);
}

/// What an op knows of its channels, kept value by value as [n, C], so that loops vectorise over C.
template <class T, class Op>
class ChannelValues {
    using Channel = typename Op::Channel;
    static constexpr std::size_t n = sizeof(Channel) / sizeof(T);

  public:
    ChannelValues(const Op& op, std::int64_t channels) : kept_(Tensor::empty({n, channels}, {.dtype = dtype_of<T>})) {
        for (std::size_t k = 0; k < n; ++k) at_.value[k] = kept_.data<T>() + static_cast<std::int64_t>(k) * channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            const auto values = std::bit_cast<std::array<T, n>>(op.channel(c));
            for (std::size_t k = 0; k < n; ++k) at_.value[k][c] = values[k];
        }
    }
    /// The values where a loop finds them: to be copied to its own variables, which no store can change.
    struct At {
        std::array<T*, n> value;
        Channel operator[](std::int64_t c) const {
            std::array<T, n> values;
            repeated<n>([&](std::size_t k) { values[k] = value[k][c]; });
            return std::bit_cast<Channel>(values);
        }
    };
    At at() const { return at_; }

  private:
    Tensor kept_;
    At at_;
};

/// Elements of the inputs of an op.
template <class S, class Op>
using Inputs = std::array<const S*, static_cast<std::size_t>(Op::inputs)>;

/// out[r, c] = op(op.channel(c), in[0][r, c], ...).
template <class S, class Op>
void channel_map(const Op& op, const Tensor& out, const Inputs<S, Op>& in) {
    using T = Compute<S>;
    const std::int64_t rows = out.channel_rows().dim(0), channels = out.channel_rows().dim(1);
    const ChannelValues<T, Op> values(op, channels);
    const bool past_cache =
        out.bytes() >= past_cache_bytes && channels * static_cast<std::int64_t>(sizeof(S)) % vector_bytes == 0;
    parallel_for(rows, chunk_rows(rows, channels), [=, channel = values.at(), y = out.data<S>()](auto begin, auto end) {
        const auto write = [&](std::int64_t r, T* to) {
            each_channel(channels, [&](std::int64_t c) {
                T x[Op::inputs];
                repeated<Op::inputs>([&](std::size_t j) { x[j] = element_cast<T>(in[j][r * channels + c]); });
                to[c] = op(channel[c], x);
            });
        };
        // made as T first where it is rounded: loops that round too do not vectorise well
        const Tensor row = Tensor::empty({channels}, {.dtype = dtype_of<T>});
        T* made = row.data<T>();
        if (past_cache) {
            for (std::int64_t r = begin; r < end; ++r)
                write(r, made), write_row<true>(made, channels, y + r * channels);
            return finish_stream();
        }
        for (std::int64_t r = begin; r < end; ++r)
            if constexpr (std::is_same_v<S, T>)
                write(r, y + r * channels);
            else
                write(r, made), write_row<false>(made, channels, y + r * channels);
    });
}

/// The sums of an op over rows [M, C]: join(c, sums) gets the totals in f64. `out` of an op that writes.
template <class S, class Op, class Join>
void channel_sums(const Op& op, std::int64_t rows, std::int64_t channels, const Inputs<S, Op>& in, S* out,
                  Join&& join) {
    using T = Compute<S>;
    const std::int64_t chunk = chunk_rows(rows, channels), chunks = (rows + chunk - 1) / chunk;
    const ChannelValues<T, Op> values(op, channels);
    const Tensor partial = Tensor::empty({chunks, Op::sums, channels}, {.dtype = dtype_of<T>});
    parallel_for(rows, chunk, [=, channel = values.at(), first = partial.data<T>()](auto begin, auto end) {
        T* sums = first + begin / chunk * Op::sums * channels;
        std::fill_n(sums, Op::sums * channels, T(0));
        std::array<T*, static_cast<std::size_t>(Op::sums)> row;
        repeated<Op::sums>([&](std::size_t n) { row[n] = sums + static_cast<std::int64_t>(n) * channels; });
        for (std::int64_t r = begin; r < end; ++r)
            each_channel(channels, [&](std::int64_t c) {
                T x[Op::inputs], sum[Op::sums];
                repeated<Op::inputs>([&](std::size_t j) { x[j] = element_cast<T>(in[j][r * channels + c]); });
                repeated<Op::sums>([&](std::size_t n) { sum[n] = row[n][c]; });
                if constexpr (Op::writes)
                    out[r * channels + c] = element_cast<S>(op.add(channel[c], x, sum));
                else
                    op.add(channel[c], x, sum);
                repeated<Op::sums>([&](std::size_t n) { row[n][c] = sum[n]; });
            });
    });
    for (std::int64_t c = 0; c < channels; ++c) {
        double total[Op::sums] = {};
        for (std::int64_t i = 0; i < chunks; ++i)
            for (int n = 0; n < Op::sums; ++n)
                total[n] += static_cast<double>(partial.data<T>()[(i * Op::sums + n) * channels + c]);
        join(c, total);
    }
}

template <class T>
const T* values_or_null(const Tensor& t) {
    return t.defined() ? t.data<T>() : nullptr;
}
template <class T>
math::NormParameters<T> norm_parameters(const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                        const Tensor& inverse_std, const Tensor& slope) {
    return {gamma.data<T>(), beta.data<T>(), mean.data<T>(), inverse_std.data<T>(), values_or_null<T>(slope)};
}

inline void inverse_std(Context&, const Tensor& variance, double epsilon, const Tensor& y) {
    visit_real(y.dtype(), "batch_norm", [&]<class T>() {
        const math::InverseStd<T> rule{variance.data<T>(), y.data<T>(), epsilon};
        for (std::int64_t c = 0; c < y.numel(); ++c) rule(c);
    });
}

inline void batch_norm_eval(Context&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                            const Tensor& inverse_std, const Tensor& slope, const Tensor& residual, const Tensor& y) {
    visit_stored(x.dtype(), "batch_norm", [&]<class S>() {
        using T = Compute<S>;
        math::visit_norm_tail(slope.defined(), residual.defined(), [&]<math::NormTail tail>() {
            const math::BatchNormApply<T, tail> op{norm_parameters<T>(gamma, beta, mean, inverse_std, slope)};
            if constexpr (op.inputs == 2)
                channel_map<S>(op, y, {x.data<S>(), residual.data<S>()});
            else
                channel_map<S>(op, y, {x.data<S>()});
        });
    });
}

/// Of `rows` rows [rows, C] the mean and the sum of squared deviations of each channel.
template <class S>
void moments(const S* in, std::int64_t rows, std::int64_t channels, Compute<S>* mean, Compute<S>* squares) {
    using T = Compute<S>;
    const Vector<T> share = broadcast(T(1) / static_cast<T>(rows));
    // as many vectors of channels at once as keep the adders busy
    const auto some = [&](std::int64_t first, auto vectors) {
        constexpr std::size_t n = decltype(vectors)::value;
        Vector<T> sum[n] = {}, square[n] = {};
        const auto at = [&](std::int64_t r, std::size_t i) {
            const std::int64_t c = first + static_cast<std::int64_t>(i) * lanes<T>;
            return n > 1 ? load(in + r * channels + c) : load(in + r * channels + c, channels - c);
        };
        for (std::int64_t r = 0; r < rows; ++r) repeated<n>([&](auto i) { sum[i] += at(r, i); });
        repeated<n>([&](auto i) { sum[i] *= share; });
        for (std::int64_t r = 0; r < rows; ++r)
            repeated<n>([&](auto i) {
                const Vector<T> d = at(r, i) - sum[i];
                square[i] += d * d;
            });
        repeated<n>([&](auto i) {
            const std::int64_t c = first + static_cast<std::int64_t>(i) * lanes<T>;
            store(mean + c, sum[i], channels - c);
            store(squares + c, square[i], channels - c);
        });
    };
    std::int64_t c = 0;
    for (; c + 4 * lanes<T> <= channels; c += 4 * lanes<T>) some(c, std::integral_constant<std::size_t, 4>());
    for (; c < channels; c += lanes<T>) some(c, std::integral_constant<std::size_t, 1>());
}

inline void batch_norm_train(Context& ctx, const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon,
                             const Tensor& slope, const Tensor& residual, const Tensor& y, const Tensor& mean,
                             const Tensor& inverse_std, double momentum, const Tensor& running_mean,
                             const Tensor& running_var) {
    visit_stored(x.dtype(), "batch_norm", [&]<class S>() {
        using T = Compute<S>;
        const Tensor rows = x.channel_rows();
        const std::int64_t m = rows.dim(0), channels = rows.dim(1);
        const S* in = x.data<S>();
        T *mu = mean.data<T>(), *inv = inverse_std.data<T>();
        // One pass over memory: a chunk's sum, then its squared deviations while it is in cache (Chan et al. 1979).
        const std::int64_t chunk = chunk_rows(m, channels), chunks = (m + chunk - 1) / chunk;
        const Tensor partial = Tensor::empty({chunks, 2, channels}, {.dtype = dtype_of<T>});
        T* parts = partial.data<T>();
        parallel_for(m, chunk, [&](std::int64_t begin, std::int64_t end) {
            T* center = parts + begin / chunk * 2 * channels;
            moments(in + begin * channels, end - begin, channels, center, center + channels);
        });
        std::vector<double> centers(static_cast<std::size_t>(channels)), deviations(centers.size());
        double count = 0;
        for (std::int64_t i = 0; i < chunks; ++i) {
            const double size = static_cast<double>(std::min(chunk, m - i * chunk)), total = count + size,
                         share = size / total, weight = count * share;
            const T *center = parts + 2 * i * channels, *squares = center + channels;
            each_channel(channels, [&](std::int64_t c) {
                double &mean_c = centers.data()[c], &squares_c = deviations.data()[c];
                const double d = static_cast<double>(center[c]) - mean_c;
                mean_c += d * share;
                squares_c += static_cast<double>(squares[c]) + d * d * weight;
            });
            count = total;
        }
        for (std::int64_t c = 0; c < channels; ++c) {
            const double center = centers[static_cast<std::size_t>(c)],
                         squares = deviations[static_cast<std::size_t>(c)];
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
    batch_norm_eval(ctx, x, gamma, beta, mean, inverse_std, slope, residual, y);
}

/// Both gradients: first the sums, then dx.
template <bool train>
void batch_norm_dx(const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                   const Tensor& inverse_std, const Tensor& slope, const Tensor& dx, const Tensor& dgamma,
                   const Tensor& dbeta, const Tensor& dslope) {
    visit_stored(x.dtype(), "batch_norm", [&]<class S>() {
        using T = Compute<S>;
        math::visit_norm_gradient(slope.defined(), [&]<bool prelu>() {
            const auto p = norm_parameters<T>(gamma, beta, mean, inverse_std, slope);
            const std::int64_t rows = x.channel_rows().dim(0);
            T *dg = dgamma.data<T>(), *db = dbeta.data<T>();
            channel_sums<S>(math::BatchNormSums<T, prelu>{p}, rows, gamma.numel(), {dy.data<S>(), x.data<S>()}, nullptr,
                            [&](std::int64_t c, const double* sum) {
                                db[c] = static_cast<T>(sum[0]);
                                dg[c] = static_cast<T>(sum[1] * static_cast<double>(p.inverse_std[c]));
                                if constexpr (prelu) dslope.data<T>()[c] = static_cast<T>(sum[2]);
                            });
            const math::BatchNormGradient<T, prelu, train> op{p, dg, db, rows};
            if constexpr (op.inputs == 2)
                channel_map<S>(op, dx, {dy.data<S>(), x.data<S>()});
            else
                channel_map<S>(op, dx, {dy.data<S>()});
        });
    });
}

inline void batch_norm_train_dx(Context&, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta,
                                const Tensor& mean, const Tensor& inverse_std, const Tensor& slope, const Tensor& dx,
                                const Tensor& dgamma, const Tensor& dbeta, const Tensor& dslope) {
    batch_norm_dx<true>(x, dy, gamma, beta, mean, inverse_std, slope, dx, dgamma, dbeta, dslope);
}
inline void batch_norm_eval_dx(Context&, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta,
                               const Tensor& mean, const Tensor& inverse_std, const Tensor& slope, const Tensor& dx,
                               const Tensor& dgamma, const Tensor& dbeta, const Tensor& dslope) {
    batch_norm_dx<false>(x, dy, gamma, beta, mean, inverse_std, slope, dx, dgamma, dbeta, dslope);
}

inline void prelu(Context&, const Tensor& x, const Tensor& slope, const Tensor& y) {
    visit_stored(x.dtype(), "prelu", [&]<class S>() {
        channel_map<S>(math::PRelu<Compute<S>>{slope.data<Compute<S>>()}, y, {x.data<S>()});
    });
}

inline void prelu_dx(Context&, const Tensor& x, const Tensor& slope, const Tensor& dy, const Tensor& dx,
                     const Tensor& dslope) {
    visit_stored(x.dtype(), "prelu", [&]<class S>() {
        using T = Compute<S>;
        channel_sums<S>(math::PReluSums<T>{slope.data<T>()}, x.channel_rows().dim(0), slope.numel(),
                        {dy.data<S>(), x.data<S>()}, dx.data<S>(),
                        [&](std::int64_t c, const double* sum) { dslope.data<T>()[c] = static_cast<T>(sum[0]); });
    });
}

}  // namespace bf::cpu
