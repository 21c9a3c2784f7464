#pragma once
#include <cmath>

#include "bf/math/fold.hpp"

// Passes over rows [M, C] with the channels innermost, such as batch norm's: maps with values a channel (index
// functors) and sums a channel (fold functors) for an Op of norm.hpp. V neighbouring channels are one lane; S is the
// storage of the rows, values of a channel are in its computing type.

namespace bf::math {

/// Row workers of a ChannelMap: index i is lane i % lanes of rows i / lanes, i / lanes + workers, ... so that a thread
/// keeps the values of its channels. About a million threads, four rows or more a thread where rows are many.
BF_HD std::int64_t channel_workers(std::int64_t rows, std::int64_t lanes) {
    const std::int64_t most = larger(1, (std::int64_t{1} << 20) / lanes), few = larger(1, (1 << 17) / lanes);
    return larger(1, smaller(rows, larger(few, smaller(most, ceil_div(rows, 4)))));
}

/// x[k][j] = in[j][at + k], k < V.
template <int V, class S, int inputs>
BF_HD void load_inputs(const S* const (&in)[inputs], std::int64_t at, Compute<S> (&x)[V][inputs]) {
    for (int j = 0; j < inputs; ++j) {
        Compute<S> value[V];
        load<V>(in[j] + at, true, value);
        for (int k = 0; k < V; ++k) x[k][j] = value[k];
    }
}

/// out[r, c] = op(op.channel(c), in[0][r, c], ...).
template <class Op, class S, int V>
struct ChannelMap {
    using T = Compute<S>;
    Op op;
    const S* in[Op::inputs];
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
        T x[count][V][Op::inputs];
        for (int u = 0; u < count; ++u) load_inputs<V>(in, (row + u * workers) * channels + first, x[u]);
        for (int u = 0; u < count; ++u) {
            T y[V];
            for (int k = 0; k < V; ++k) y[k] = op(channel[k], x[u][k]);
            store<V>(out + (row + u * workers) * channels + first, true, y);
        }
    }
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

/// Sums a channel over the rows of a chunk, in the computing type. Where the op has keep(channel, rows, sums), that
/// turns the sums of a chunk into what is kept of it.
template <class Op, class S, int V>
struct ChannelSums {
    using T = Compute<S>;
    static constexpr int sums = Op::sums;
    struct State {
        T sum[V][sums];
    };
    static constexpr bool adjacent = false;
    Op op;
    ChannelChunks g;
    int columns;
    const S* in[Op::inputs];
    S* out;           ///< of an op that writes
    double* partial;  ///< [chunks, sums, C]

    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s;
        for (int k = 0; k < V; ++k)
            for (int n = 0; n < sums; ++n) s.sum[k][n] = T(0);
        const Division at = divide(block, g.strips);  // chunk, strip
        const std::int64_t lane = at.rest * columns + column, begin = at.quotient * g.chunk;
        if (lane >= g.lanes) return s;
        typename Op::Channel channel[V];
        for (int k = 0; k < V; ++k) channel[k] = op.channel(lane * V + k, begin);
        const std::int64_t step = fold_threads / columns, end = smaller(g.rows, begin + g.chunk);
        constexpr int unroll = V * Op::inputs > 8 ? 2 : 4;  // within the registers of a thread
        std::int64_t r = begin + member;
        for (; r + (unroll - 1) * step < end; r += unroll * step) add_rows<unroll>(channel, r, step, lane * V, s);
        for (; r < end; r += step) add_rows<1>(channel, r, step, lane * V, s);
        return s;
    }
    BF_HD static State combine(const State& a, const State& b) {
        State s;
        for (int k = 0; k < V; ++k)
            for (int n = 0; n < sums; ++n) s.sum[k][n] = a.sum[k][n] + b.sum[k][n];
        return s;
    }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const Division at = divide(block, g.strips);
        const std::int64_t lane = at.rest * columns + column, begin = at.quotient * g.chunk;
        if (member != 0 || lane >= g.lanes) return;
        for (int k = 0; k < V; ++k) {
            const std::int64_t c = lane * V + k;
            double kept[sums];
            for (int n = 0; n < sums; ++n) kept[n] = static_cast<double>(total.sum[k][n]);
            if constexpr (requires { op.keep(op.channel(c, begin), g.rows, kept); })
                op.keep(op.channel(c, begin), smaller(g.chunk, g.rows - begin), kept);
            for (int n = 0; n < sums; ++n) partial[(at.quotient * sums + n) * g.channels + c] = kept[n];
        }
    }

  private:
    /// `count` rows whose reads do not wait for each other.
    template <int count>
    BF_HD void add_rows(const typename Op::Channel* channel, std::int64_t row, std::int64_t step, std::int64_t first,
                        State& s) const {
        T x[count][V][Op::inputs];
        for (int u = 0; u < count; ++u) load_inputs<V>(in, (row + u * step) * g.channels + first, x[u]);
        for (int u = 0; u < count; ++u) {
            if constexpr (Op::writes) {
                T y[V];
                for (int k = 0; k < V; ++k) y[k] = op.add(channel[k], x[u][k], s.sum[k]);
                store<V>(out + (row + u * step) * g.channels + first, true, y);
            } else {
                for (int k = 0; k < V; ++k) op.add(channel[k], x[u][k], s.sum[k]);
            }
        }
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

/// Joins the chunks of a channel's sums: out[n][c] = sum n, times scale[n][c] where that is not null.
template <class T, int sums>
struct JoinSums {
    struct State {
        double sum[sums];
    };
    static constexpr bool adjacent = false;
    static constexpr int columns = 4;
    ChannelChunks g;
    const double* partial;
    T* out[sums];
    const T* scale[sums];

    BF_HD std::int64_t blocks() const { return ceil_div(g.channels, columns); }
    BF_HD State thread(std::int64_t block, int member, int column) const {
        State s{};
        const std::int64_t c = block * columns + column;
        if (c < g.channels)
            for (std::int64_t i = member; i < g.chunks; i += fold_threads / columns)
                for (int n = 0; n < sums; ++n) s.sum[n] += partial[(i * sums + n) * g.channels + c];
        return s;
    }
    BF_HD static State combine(const State& a, const State& b) {
        State s;
        for (int n = 0; n < sums; ++n) s.sum[n] = a.sum[n] + b.sum[n];
        return s;
    }
    BF_HD void finish(std::int64_t block, int member, int column, const State& total) const {
        const std::int64_t c = block * columns + column;
        if (member != 0 || c >= g.channels) return;
        for (int n = 0; n < sums; ++n)
            out[n][c] = static_cast<T>(scale[n] ? total.sum[n] * static_cast<double>(scale[n][c]) : total.sum[n]);
    }
};

}  // namespace bf::math
