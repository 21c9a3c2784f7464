#pragma once
#include <cmath>

#include "bf/math/element.hpp"

// Batch norm and PReLU: what is done to an element of rows [M, C], written once. The loops of cpu_norm.hpp and the
// functors of channels.hpp both expand an Op. Rows may be kept in 16-bit storage; T is what they are computed in.
//   static constexpr int inputs;                     tensors that it reads
//   struct Channel;                                  what it knows of a channel: values of T and nothing else
//   Channel channel(c) const;                        of a sum: channel(c, first row of the chunk)
//   T operator()(channel, const T* x) const;         a map: the element of the output; x[j] is that of input j
//   static constexpr int sums; bool writes;          a sum: totals a channel; whether it is a map too
//   T add(channel, const T* x, T* sum) const;        adds to the totals; returns the output's element if it `writes`
//   void keep(channel, rows, double* sum) const;     where there: turns the totals of a chunk into what is kept of it

namespace bf::math {

/// y = v where v > 0, else slope v, as a product (v 1 is v to the bit): what is chosen are values at hand, so that
/// loops vectorise without branches.
template <class T>
BF_HD T prelu(T v, T slope) {
    return v * (v > T(0) ? T(1) : slope);
}
/// dv of prelu().
template <class T>
BF_HD T prelu_gradient(T v, T slope, T dy) {
    return dy * (v > T(0) ? T(1) : slope);
}
/// What an element adds to the gradient of the slope.
template <class T>
BF_HD T prelu_slope_gradient(T v, T dy) {
    return dy * (v > T(0) ? T(0) : v);
}

/// What is done to v = scale x + shift of a batch norm in the same pass.
enum class NormTail { none, prelu, add };

/// f.operator()<tail>() for what is there: a slope, a residual or neither.
template <class F>
void visit_norm_tail(bool slope, bool residual, F&& f) {
    if (slope)
        f.template operator()<NormTail::prelu>();
    else if (residual)
        f.template operator()<NormTail::add>();
    else
        f.template operator()<NormTail::none>();
}
/// f.operator()<prelu>() for the gradients, in which dy goes to the residual as it is.
template <class F>
void visit_norm_gradient(bool slope, F&& f) {
    if (slope)
        f.template operator()<true>();
    else
        f.template operator()<false>();
}

/// Parameters and statistics of a batch norm, each [C]; slope is read with PReLU alone.
template <class T>
struct NormParameters {
    const T *gamma, *beta, *mean, *inverse_std, *slope;
};

/// v = scale x + shift, and the slope of the PReLU behind it.
template <class T, bool with_prelu>
struct NormChannel {
    T scale, shift, slope;

    BF_HD static NormChannel of(const NormParameters<T>& p, std::int64_t c) {
        const T scale = p.gamma[c] * p.inverse_std[c];
        return {scale, p.beta[c] - p.mean[c] * scale, with_prelu ? p.slope[c] : T(1)};
    }
    BF_HD T value(T x) const { return x * scale + shift; }
    /// dv; the value before PReLU was not kept and is computed again.
    BF_HD T gradient(T dy, T x) const {
        if constexpr (with_prelu) return prelu_gradient(value(x), slope, dy);
        return dy;
    }
};

/// y = v, prelu(v) or v + residual. Inputs: x, and the residual where one is added.
template <class T, NormTail tail>
struct BatchNormApply {
    static constexpr int inputs = tail == NormTail::add ? 2 : 1;
    using Channel = NormChannel<T, tail == NormTail::prelu>;
    NormParameters<T> p;

    BF_HD Channel channel(std::int64_t c) const { return Channel::of(p, c); }
    BF_HD T operator()(const Channel& c, const T* x) const {
        const T v = c.value(x[0]);
        if constexpr (tail == NormTail::prelu) return prelu(v, c.slope);
        if constexpr (tail == NormTail::add) return v + x[1];
        return v;
    }
};

/// dx = gamma inv (dv - mean(dv) - xhat mean(dv xhat)) = scale dv + b x + c with the statistics of the batch,
/// dx = scale dv with given ones. Inputs: dy, and x where it is needed.
template <class T, bool with_prelu, bool train>
struct BatchNormGradient {
    static constexpr int inputs = train || with_prelu ? 2 : 1;
    struct Channel {
        NormChannel<T, with_prelu> v;
        T b, c;
    };
    NormParameters<T> p;
    const T *dgamma, *dbeta;
    std::int64_t rows;

    BF_HD Channel channel(std::int64_t c) const {
        const auto v = NormChannel<T, with_prelu>::of(p, c);
        if constexpr (!train) return {v, T(0), T(0)};
        const T b = -v.scale * p.inverse_std[c] * dgamma[c] / static_cast<T>(rows);
        return {v, b, -v.scale * dbeta[c] / static_cast<T>(rows) - b * p.mean[c]};
    }
    BF_HD T operator()(const Channel& c, const T* x) const {
        const T dv = c.v.gradient(x[0], x[inputs - 1]);
        if constexpr (train) return c.v.scale * dv + c.b * x[1] + c.c;
        return dv * c.v.scale;
    }
};

/// Sums of dv and of dv (x - mean), which the gradients of beta and gamma are made of, and that of the slope.
/// Inputs: dy, x.
template <class T, bool with_prelu>
struct BatchNormSums {
    static constexpr int inputs = 2, sums = with_prelu ? 3 : 2;
    static constexpr bool writes = false;
    struct Channel {
        NormChannel<T, with_prelu> v;
        T mean;
    };
    NormParameters<T> p;

    BF_HD Channel channel(std::int64_t c, std::int64_t = 0) const {
        return {NormChannel<T, with_prelu>::of(p, c), p.mean[c]};
    }
    BF_HD void add(const Channel& c, const T* x, T* sum) const {
        const T dv = c.v.gradient(x[0], x[1]);
        sum[0] += dv;
        sum[1] += dv * (x[1] - c.mean);
        if constexpr (with_prelu) sum[2] += prelu_slope_gradient(c.v.value(x[1]), x[0]);
    }
};

/// y = prelu(x).
template <class T>
struct PRelu {
    static constexpr int inputs = 1;
    struct Channel {
        T slope;
    };
    const T* slope;

    BF_HD Channel channel(std::int64_t c) const { return {slope[c]}; }
    BF_HD T operator()(const Channel& c, const T* x) const { return prelu(x[0], c.slope); }
};

/// Writes dx of prelu(x) and sums the gradient of the slope. Inputs: dy, x.
template <class T>
struct PReluSums {
    static constexpr int inputs = 2, sums = 1;
    static constexpr bool writes = true;
    struct Channel {
        T slope;
    };
    const T* slope;

    BF_HD Channel channel(std::int64_t c, std::int64_t = 0) const { return {slope[c]}; }
    BF_HD T add(const Channel& c, const T* x, T* sum) const {
        sum[0] += prelu_slope_gradient(x[1], x[0]);
        return prelu_gradient(x[1], c.slope, x[0]);
    }
};

/// Sums of x - k and (x - k)^2 with k the chunk's first row, kept as the chunk's mean and its squared deviations: one
/// pass over memory, without the cancellation of raw squares.
template <class S>
struct BatchStatistics {
    using T = Compute<S>;
    static constexpr int inputs = 1, sums = 2;
    static constexpr bool writes = false;
    struct Channel {
        T shift;
    };
    const S* x;
    std::int64_t channels;

    BF_HD Channel channel(std::int64_t c, std::int64_t begin) const {
        return {element_cast<T>(x[begin * channels + c])};
    }
    BF_HD void add(const Channel& c, const T* value, T* sum) const {
        const T d = value[0] - c.shift;
        sum[0] += d;
        sum[1] += d * d;
    }
    BF_HD void keep(const Channel& c, std::int64_t rows, double* sum) const {
        const double share = sum[0] / static_cast<double>(rows), left = sum[1] - sum[0] * share;
        sum[0] = static_cast<double>(c.shift) + share;
        sum[1] = left > 0 || left != left ? left : 0;
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
