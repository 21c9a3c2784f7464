#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

// Reducers: identity, map, combine, finish. `combine` is associative, so a device may reduce in a tree; the tests
// run such a tree on the CPU. slope(x, result, n) is d result / d x.

namespace bf::math {

// clang-format off
struct Sum {
    template <class T> BF_HD static T identity() { return T(0); }
    template <class T> BF_HD static T map(T x) { return x; }
    template <class T> BF_HD static T combine(T a, T b) { return a + b; }
    template <class T> BF_HD static T finish(T a, T) { return a; }
    template <class T> BF_HD static T slope(T, T, T) { return T(1); }
};
struct Mean {
    template <class T> BF_HD static T identity() { return T(0); }
    template <class T> BF_HD static T map(T x) { return x; }
    template <class T> BF_HD static T combine(T a, T b) { return a + b; }
    template <class T> BF_HD static T finish(T a, T n) { return a / n; }
    template <class T> BF_HD static T slope(T, T, T n) { return T(1) / n; }
};
struct SumSquares {
    template <class T> BF_HD static T identity() { return T(0); }
    template <class T> BF_HD static T map(T x) { return x * x; }
    template <class T> BF_HD static T combine(T a, T b) { return a + b; }
    template <class T> BF_HD static T finish(T a, T) { return a; }
    template <class T> BF_HD static T slope(T x, T, T) { return T(2) * x; }
};
/// Largest element; every element that equals it receives the gradient.
struct Max {
    template <class T> BF_HD static T identity() { return -static_cast<T>(HUGE_VAL); }
    template <class T> BF_HD static T map(T x) { return x; }
    template <class T> BF_HD static T combine(T a, T b) { return a > b ? a : b; }
    template <class T> BF_HD static T finish(T a, T) { return a; }
    template <class T> BF_HD static T slope(T x, T y, T) { return x == y ? T(1) : T(0); }
};
// clang-format on

}  // namespace bf::math

/// Every reduction: (name of the function, functor).
#define BF_REDUCE_OPS(X)       \
    X(sum, Sum)                \
    X(mean, Mean)              \
    X(sum_squares, SumSquares) \
    X(max, Max)

namespace bf {

#define BF_ENUM(name, Functor) name,
enum class Reduce { BF_REDUCE_OPS(BF_ENUM) };
#undef BF_ENUM

}  // namespace bf
