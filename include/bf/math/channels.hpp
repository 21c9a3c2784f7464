#pragma once
#include <cmath>

#include "bf/math/fold.hpp"

// Batch norm and PReLU over rows [M, C] with the channels innermost: maps with values a channel (index functors) and
// sums a channel (fold functors). V neighbouring channels are one lane; S is the storage of the rows, parameters and
// statistics are in its computing type.

namespace bf::math {

/// Row workers of a ChannelMap: index i is lane i % lanes of rows i / lanes, i / lanes + workers, ... so that a thread
/// keeps the values of its channels. About a million threads, four rows or more a thread where rows are many.
BF_HD std::int64_t channel_workers(std::int64_t rows, std::int64_t lanes) {
    const std::int64_t most = larger(1, (std::int64_t{1} << 20) / lanes), few = larger(1, (1 << 17) / lanes);
    return larger(1, smaller(rows, larger(few, smaller(most, ceil_div(rows, 4)))));
}

/// out[r, c] = op(op.channel(c), in[0][r, c], ...).
template <class Op, class S, int V, int inputs>
struct ChannelMap {
    using T = Compute<S>;
    Op op;
    const S* in[inputs];
    S* out;
    std::int64_t rows, channels, workers;

    BF_HD std::int64_t indices() const { return channels / V * workers; }
    BF_HD void operator()(std::int64_t i) const {
        const Division at = divide(i, channels / V);
        const std::int64_t first = at.rest * V;
        typename Op::Channel channel[V];
        for (int k = 0; k < V; ++k) channel[k] = op.channel(first + k);
        std::int64_t r = at.quotient;
        for (; r + workers < rows; r += 2 * workers) map_rows<2>(channel, r, first);
        for (; r < rows; r += workers) map_rows<1>(channel, r, first);
    }

  private:
    /// `count` rows, all read before the first is written: more bytes on the way at a time.
    template <int count>
    BF_HD void map_rows(const typename Op::Channel* channel, std::int64_t row, std::int64_t first) const {
        T x[count][inputs][V];
        for (int u = 0; u < count; ++u)
            for (int j = 0; j < inputs; ++j) load<V>(in[j] + (row + u * workers) * channels + first, true, x[u][j]);
        for (int u = 0; u < count; ++u) {
            T y[V];
            for (int k = 0; k < V; ++k) {
                T arguments[inputs];
                for (int j = 0; j < inputs; ++j) arguments[j] = x[u][j][k];
                y[k] = op(channel[k], arguments);
            }
            store<V>(out + (row + u * workers) * channels + first, true, y);
        }
    }
};

/// y = scale x + shift.
template <class T>
struct BatchNormApply {
    struct Channel {
        T scale, shift;
    };
    const T *gamma, *beta, *mean, *inverse_std;

    BF_HD Channel channel(std::int64_t c) const {
        const T scale = gamma[c] * inverse_std[c];
        return {scale, beta[c] - mean[c] * scale};
    }
    BF_HD T operator()(const Channel& c, const T* x) const { return x[0] * c.scale + c.shift; }
};

/// dx = gamma inv (dy - mean(dy) - xhat mean(dy xhat)) = a dy + b x + c. Arguments: x, dy.
template <class T>
struct BatchNormTrainGradient {
    struct Channel {
        T a, b, c;
    };
    const T *gamma, *mean, *inverse_std, *dgamma, *dbeta;
    std::int64_t rows;

    BF_HD Channel channel(std::int64_t c) const {
        const T a = gamma[c] * inverse_std[c];
        const T b = -a * inverse_std[c] * dgamma[c] / static_cast<T>(rows);
        return {a, b, -a * dbeta[c] / static_cast<T>(rows) - b * mean[c]};
    }
    BF_HD T operator()(const Channel& c, const T* x) const { return c.a * x[1] + c.b * x[0] + c.c; }
};

/// dx = dy gamma inv.
template <class T>
struct BatchNormEvalGradient {
    struct Channel {
        T scale;
    };
    const T *gamma, *inverse_std;

    BF_HD Channel channel(std::int64_t c) const { return {gamma[c] * inverse_std[c]}; }
    BF_HD T operator()(const Channel& c, const T* dy) const { return dy[0] * c.scale; }
};

/// y = x where x > 0, else slope x.
template <class T>
struct PRelu {
    struct Channel {
        T slope;
    };
    const T* slope;

    BF_HD Channel channel(std::int64_t c) const { return {slope[c]}; }
    BF_HD T operator()(const Channel& c, const T* x) const { return x[0] > T(0) ? x[0] : c.slope * x[0]; }
};

/// How rows [M, C] are cut for sums a channel: a block takes `columns` lanes of a chunk of rows. A function of the
/// shape alone, so that sums do not depend on the device.
struct ChannelChunks {
    std::int64_t rows, channels, lanes;
    int columns;
    std::int64_t strips, chunk, chunks;

    BF_HD static ChannelChunks of(std::int64_t rows, std::int64_t channels, int neighbours) {
        ChannelChunks g{rows, channels, channels / neighbours, 0, 0, 0, 0};
        g.columns = power_of_two(g.lanes, 32);
        g.strips = ceil_div(g.lanes, g.columns);
        // about 1024 blocks in all, a thread with four rows or more
        const std::int64_t most = larger(1, 1024 / g.strips), least = 4 * (fold_threads / g.columns);
        g.chunk = larger(least, ceil_div(rows, most));
        g.chunks = larger(1, ceil_div(rows, g.chunk));
        return g;
    }
    BF_HD std::int64_t blocks() const { return strips * chunks; }
};

/// Two sums a channel over the rows of a chunk, in the computing type. Op says what is added:
///   Channel op.channel(c, first row of the chunk), op.add(channel, element, first, second).
/// op.partial(channel, rows, first, second) turns the sums of a chunk into the two f64 values that are kept.
template <class Op, class S, int V>
struct ChannelSums {
    using T = Compute<S>;
    struct State {
        T first[V], second[V];
    };
    static constexpr bool adjacent = false;
    Op op;
    ChannelChunks g;
    int columns;
    double* partial;  ///< [chunks, 2, C]

    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s;
        for (int k = 0; k < V; ++k) s.first[k] = s.second[k] = T(0);
        const Division at = divide(block, g.strips);  // chunk, strip
        const std::int64_t lane = at.rest * columns + column, begin = at.quotient * g.chunk;
        if (lane >= g.lanes) return s;
        typename Op::Channel channel[V];
        for (int k = 0; k < V; ++k) channel[k] = op.channel(lane * V + k, begin);
        const std::int64_t step = fold_threads / columns, end = smaller(g.rows, begin + g.chunk);
        std::int64_t r = begin + member;
        for (; r + 3 * step < end; r += 4 * step)  // four rows whose reads do not wait for each other
            for (int u = 0; u < 4; ++u)
                op.template add<V>(channel, (r + u * step) * g.channels + lane * V, s.first, s.second);
        for (; r < end; r += step) op.template add<V>(channel, r * g.channels + lane * V, s.first, s.second);
        return s;
    }
    BF_HD static State combine(const State& a, const State& b) {
        State s;
        for (int k = 0; k < V; ++k) {
            s.first[k] = a.first[k] + b.first[k];
            s.second[k] = a.second[k] + b.second[k];
        }
        return s;
    }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const Division at = divide(block, g.strips);
        const std::int64_t lane = at.rest * columns + column, begin = at.quotient * g.chunk;
        if (member != 0 || lane >= g.lanes) return;
        for (int k = 0; k < V; ++k) {
            double* to = partial + at.quotient * 2 * g.channels + lane * V + k;
            op.partial(op.channel(lane * V + k, begin), smaller(g.chunk, g.rows - begin),
                       static_cast<double>(total.first[k]), static_cast<double>(total.second[k]), to[0],
                       to[g.channels]);
        }
    }
};

/// Sums of x - k and (x - k)^2 with k the chunk's first row, kept as the chunk's mean and its squared deviations: one
/// pass over memory, without the cancellation of raw squares.
template <class S>
struct BatchStatistics {
    using T = Compute<S>;
    struct Channel {
        T shift;
    };
    const S* x;
    std::int64_t channels;

    BF_HD Channel channel(std::int64_t c, std::int64_t begin) const {
        return {element_cast<T>(x[begin * channels + c])};
    }
    template <int V>
    BF_HD void add(const Channel* channel, std::int64_t at, T* first, T* second) const {
        T value[V];
        load<V>(x + at, true, value);
        for (int k = 0; k < V; ++k) {
            const T d = value[k] - channel[k].shift;
            first[k] += d;
            second[k] += d * d;
        }
    }
    BF_HD void partial(const Channel& channel, std::int64_t rows, double first, double second, double& center,
                       double& squares) const {
        const double share = first / static_cast<double>(rows), left = second - first * share;
        center = static_cast<double>(channel.shift) + share;
        squares = left > 0 || left != left ? left : 0;
    }
};

/// Sums of dy and of dy (x - mean): what the gradients of beta and gamma are made of.
template <class S>
struct BatchNormSums {
    using T = Compute<S>;
    struct Channel {
        T mean;
    };
    const S *x, *dy;
    const T* mean;

    BF_HD Channel channel(std::int64_t c, std::int64_t) const { return {mean[c]}; }
    template <int V>
    BF_HD void add(const Channel* channel, std::int64_t at, T* first, T* second) const {
        T value[V], g[V];
        load<V>(x + at, true, value);
        load<V>(dy + at, true, g);
        for (int k = 0; k < V; ++k) {
            first[k] += g[k];
            second[k] += g[k] * (value[k] - channel[k].mean);
        }
    }
    BF_HD void partial(const Channel&, std::int64_t, double first, double second, double& a, double& b) const {
        a = first;
        b = second;
    }
};

/// Writes dx of PReLU and sums dy x over x <= 0, the gradient of the slope.
template <class S>
struct PReluSums {
    using T = Compute<S>;
    struct Channel {
        T slope;
    };
    const S *x, *dy;
    const T* slope;
    S* dx;

    BF_HD Channel channel(std::int64_t c, std::int64_t) const { return {slope[c]}; }
    template <int V>
    BF_HD void add(const Channel* channel, std::int64_t at, T* first, T*) const {
        T value[V], g[V], d[V];
        load<V>(x + at, true, value);
        load<V>(dy + at, true, g);
        for (int k = 0; k < V; ++k) {
            d[k] = value[k] > T(0) ? g[k] : channel[k].slope * g[k];
            first[k] += value[k] > T(0) ? T(0) : g[k] * value[k];
        }
        store<V>(dx + at, true, d);
    }
    BF_HD void partial(const Channel&, std::int64_t, double first, double second, double& a, double& b) const {
        a = first;
        b = second;
    }
};

/// Joins the chunks of BatchStatistics a channel (Chan, Golub, LeVeque 1979) and settles the statistics of the layer.
template <class T>
struct JoinStatistics {
    struct State {
        double count, center, squares;
    };
    static constexpr bool adjacent = false;
    static constexpr int columns = 4;
    ChannelChunks g;
    const double* partial;
    T *mean, *inverse_std, *running_mean, *running_var;  ///< the last two may be null
    double epsilon, momentum;

    BF_HD std::int64_t blocks() const { return ceil_div(g.channels, columns); }
    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s{0, 0, 0};
        const std::int64_t c = block * columns + column;
        if (c < g.channels)
            for (std::int64_t i = member; i < g.chunks; i += fold_threads / columns)
                s = combine(s, State{static_cast<double>(smaller(g.chunk, g.rows - i * g.chunk)),
                                     partial[2 * i * g.channels + c], partial[(2 * i + 1) * g.channels + c]});
        return s;
    }
    BF_HD static State combine(const State& a, const State& b) {
        if (b.count <= 0) return a;
        if (a.count <= 0) return b;
        const double count = a.count + b.count, d = b.center - a.center, share = b.count / count;
        return {count, a.center + d * share, a.squares + b.squares + d * d * a.count * share};
    }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t c = block * columns + column;
        if (member != 0 || c >= g.channels) return;
        mean[c] = static_cast<T>(total.center);
        inverse_std[c] = static_cast<T>(1 / std::sqrt(total.squares / total.count + epsilon));
        if (!running_mean) return;
        const double unbiased = total.squares / (total.count > 2 ? total.count - 1 : 1);
        running_mean[c] =
            static_cast<T>((1 - momentum) * static_cast<double>(running_mean[c]) + momentum * total.center);
        running_var[c] = static_cast<T>((1 - momentum) * static_cast<double>(running_var[c]) + momentum * unbiased);
    }
};

/// Joins the chunks of two sums a channel: first[c] and second[c] scale[c], each left out where null.
template <class T>
struct JoinSums {
    struct State {
        double first, second;
    };
    static constexpr bool adjacent = false;
    static constexpr int columns = 4;
    ChannelChunks g;
    const double* partial;
    T *first, *second;
    const T* scale;

    BF_HD std::int64_t blocks() const { return ceil_div(g.channels, columns); }
    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s{0, 0};
        const std::int64_t c = block * columns + column;
        if (c < g.channels)
            for (std::int64_t i = member; i < g.chunks; i += fold_threads / columns)
                s = combine(s, State{partial[2 * i * g.channels + c], partial[(2 * i + 1) * g.channels + c]});
        return s;
    }
    BF_HD static State combine(const State& a, const State& b) { return {a.first + b.first, a.second + b.second}; }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t c = block * columns + column;
        if (member != 0 || c >= g.channels) return;
        if (first) first[c] = static_cast<T>(total.first);
        if (second) second[c] = static_cast<T>(total.second * static_cast<double>(scale[c]));
    }
};

/// y = 1 / sqrt(variance + epsilon); one channel an index.
template <class T>
struct InverseStd {
    const T* variance;
    T* y;
    double epsilon;
    BF_HD void operator()(std::int64_t c) const {
        y[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(variance[c]) + epsilon));
    }
};

}  // namespace bf::math
