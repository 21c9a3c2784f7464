#pragma once
#include "bf/base/random.hpp"
#include "bf/math/element.hpp"

// Index functors, element by element: operator()(i) does the i-th group of V neighbours, i < groups(n).

namespace bf::math {

/// out[e] = op(in[0][e], in[1][e], ...). Op: T operator()(const T* arguments).
template <class Op, class S, int inputs>
struct Map {
    using T = Compute<S>;
    static constexpr int V = pack_size<S>;
    Op op;
    const S* in[inputs];
    S* out;
    std::int64_t n;
    bool aligned;

    BF_HD static std::int64_t groups(std::int64_t n) { return ceil_div(n, V); }
    BF_HD void operator()(std::int64_t i) const {
        const std::int64_t begin = i * V;
        if (begin + V <= n) {
            T x[inputs][V], y[V];
            for (int j = 0; j < inputs; ++j) load<V>(in[j] + begin, aligned, x[j]);
            for (int k = 0; k < V; ++k) {
                T arguments[inputs];
                for (int j = 0; j < inputs; ++j) arguments[j] = x[j][k];
                y[k] = op(arguments);
            }
            store<V>(out + begin, aligned, y);
        } else {
            for (std::int64_t e = begin; e < n; ++e) {
                T arguments[inputs];
                for (int j = 0; j < inputs; ++j) arguments[j] = element_cast<T>(in[j][e]);
                out[e] = element_cast<S>(op(arguments));
            }
        }
    }
};

// clang-format off
/// What Map computes for the functors of pointwise.hpp. Arguments of the gradients: x, y, dy and x, z, dy.
template <class F, class T>
struct UnaryValue {
    T a, b;
    BF_HD T operator()(const T* x) const { return F::value(x[0], a, b); }
};
template <class F, class T>
struct UnaryGradient {
    T a, b;
    BF_HD T operator()(const T* x) const { return x[2] * F::slope(x[0], x[1], a, b); }
};
template <class F, class T>
struct BinaryValue {
    BF_HD T operator()(const T* x) const { return F::value(x[0], x[1]); }
};
template <class F, class T, bool first>
struct BinaryGradient {
    BF_HD T operator()(const T* x) const { return x[2] * (first ? F::dx(x[0], x[1]) : F::dz(x[0], x[1])); }
};
/// a x, and a x + b y.
template <class T>
struct Scaled {
    T a;
    BF_HD T operator()(const T* x) const { return a * x[0]; }
};
template <class T>
struct WeightedSum {
    T a, b;
    BF_HD T operator()(const T* x) const { return a * x[0] + b * x[1]; }
};
// clang-format on

/// y = x in another type.
template <class From, class To>
struct Cast {
    // 16 bytes on the narrower side
    static constexpr int V = sizeof(From) < sizeof(To) ? pack_size<From> : pack_size<To>;
    const From* x;
    To* y;
    std::int64_t n;
    bool aligned;

    BF_HD static std::int64_t groups(std::int64_t n) { return ceil_div(n, V); }
    BF_HD void operator()(std::int64_t i) const {
        const std::int64_t begin = i * V;
        if (aligned && begin + V <= n) {
            const Pack<From, V> from = *reinterpret_cast<const Pack<From, V>*>(x + begin);
            Pack<To, V> to;
            for (int k = 0; k < V; ++k) to.v[k] = element_cast<To>(from.v[k]);
            *reinterpret_cast<Pack<To, V>*>(y + begin) = to;
        } else {
            for (std::int64_t e = begin; e < smaller(n, begin + V); ++e) y[e] = element_cast<To>(x[e]);
        }
    }
};

/// y = value; S may be an integer with the bits of the value.
template <class S>
struct Fill {
    static constexpr int V = pack_size<S>;
    S* y;
    S value;
    std::int64_t n;
    bool aligned;

    BF_HD static std::int64_t groups(std::int64_t n) { return ceil_div(n, V); }
    BF_HD void operator()(std::int64_t i) const {
        const std::int64_t begin = i * V;
        if (aligned && begin + V <= n) {
            Pack<S, V> pack;
            for (int k = 0; k < V; ++k) pack.v[k] = value;
            *reinterpret_cast<Pack<S, V>*>(y + begin) = pack;
        } else {
            for (std::int64_t e = begin; e < smaller(n, begin + V); ++e) y[e] = value;
        }
    }
};

/// y = x keep where the draw of the element is at least the threshold, else 0. One Philox block gives the draws of four
/// neighbours: the draw of element e is random_uniform(seed, Stream::dropout, step, e).
template <class S>
struct Dropout {
    using T = Compute<S>;
    static constexpr int V = 4;
    std::uint64_t key, step;
    float threshold;
    T keep;
    const S* x;
    S* y;
    std::int64_t n;
    bool aligned;

    BF_HD static std::int64_t groups(std::int64_t n) { return ceil_div(n, V); }
    BF_HD void operator()(std::int64_t i) const {
        const Random4 draw = philox(key, step, static_cast<std::uint64_t>(i));
        const std::int64_t begin = i * V;
        if (begin + V <= n) {
            T value[V];
            load<V>(x + begin, aligned, value);
            for (int k = 0; k < V; ++k) value[k] = to_uniform(draw.v[k]) >= threshold ? value[k] * keep : T(0);
            store<V>(y + begin, aligned, value);
        } else {
            for (int k = 0; begin + k < n; ++k) {
                const T value = element_cast<T>(x[begin + k]);
                y[begin + k] = element_cast<S>(to_uniform(draw.v[k]) >= threshold ? value * keep : T(0));
            }
        }
    }
};

/// Gradient of a reduction of x [outer, n, inner] to y [outer, inner]; one element of dx an index.
template <class F, class T>
struct ReduceGradient {
    std::int64_t count, inner;  ///< n, inner
    const T *x, *y, *dy;
    T* dx;

    BF_HD void operator()(std::int64_t i) const {
        const Division row = divide(i, inner);
        const std::int64_t to = divide(row.quotient, count).quotient * inner + row.rest;
        dx[i] = dy[to] * F::slope(x[i], y[to], static_cast<T>(count));
    }
};

}  // namespace bf::math
