#pragma once
#include <cmath>

#include "bf/base/macros.hpp"

// Pointwise maths, written once. A unary functor gives value(x) and slope(x, y) = dy/dx; a binary one gives value
// and the two partial derivatives. `a` and `b` are the op's parameters. The lists at the end are what CPU loops,
// CUDA kernels, the op functions and the proofs expand: a new op is a functor, a line in the list, a proof row.

namespace bf::math {

// clang-format off
template <class T>
BF_HD T exp_(T x) { return std::exp(x); }

struct Relu {
    template <class T> BF_HD static T value(T x, T, T) { return x > T(0) ? x : T(0); }
    template <class T> BF_HD static T slope(T x, T, T, T) { return x > T(0) ? T(1) : T(0); }
};
struct Sigmoid {
    template <class T> BF_HD static T value(T x, T, T) {
        if (x >= T(0)) return T(1) / (T(1) + exp_(-x));
        const T e = exp_(x);
        return e / (T(1) + e);
    }
    template <class T> BF_HD static T slope(T, T y, T, T) { return y * (T(1) - y); }
};
struct Tanh {
    template <class T> BF_HD static T value(T x, T, T) { return std::tanh(x); }
    template <class T> BF_HD static T slope(T, T y, T, T) { return T(1) - y * y; }
};
struct Exp {
    template <class T> BF_HD static T value(T x, T, T) { return exp_(x); }
    template <class T> BF_HD static T slope(T, T y, T, T) { return y; }
};
struct Log {
    template <class T> BF_HD static T value(T x, T, T) { return std::log(x); }
    template <class T> BF_HD static T slope(T x, T, T, T) { return T(1) / x; }
};
struct Sqrt {
    template <class T> BF_HD static T value(T x, T, T) { return std::sqrt(x); }
    template <class T> BF_HD static T slope(T, T y, T, T) { return T(0.5) / y; }
};
struct Square {
    template <class T> BF_HD static T value(T x, T, T) { return x * x; }
    template <class T> BF_HD static T slope(T x, T, T, T) { return T(2) * x; }
};
struct Abs {
    template <class T> BF_HD static T value(T x, T, T) { return x < T(0) ? -x : x; }
    template <class T> BF_HD static T slope(T x, T, T, T) { return x < T(0) ? T(-1) : T(1); }
};
/// a x + b
struct Affine {
    template <class T> BF_HD static T value(T x, T a, T b) { return a * x + b; }
    template <class T> BF_HD static T slope(T, T, T a, T) { return a; }
};
/// x limited to [a, b]; the gradient is 0 outside.
struct Clamp {
    template <class T> BF_HD static T value(T x, T a, T b) { return x < a ? a : (x > b ? b : x); }
    template <class T> BF_HD static T slope(T x, T, T a, T b) { return x < a || x > b ? T(0) : T(1); }
};

struct Add {
    template <class T> BF_HD static T value(T x, T z) { return x + z; }
    template <class T> BF_HD static T dx(T, T) { return T(1); }
    template <class T> BF_HD static T dz(T, T) { return T(1); }
};
struct Sub {
    template <class T> BF_HD static T value(T x, T z) { return x - z; }
    template <class T> BF_HD static T dx(T, T) { return T(1); }
    template <class T> BF_HD static T dz(T, T) { return T(-1); }
};
struct Mul {
    template <class T> BF_HD static T value(T x, T z) { return x * z; }
    template <class T> BF_HD static T dx(T, T z) { return z; }
    template <class T> BF_HD static T dz(T x, T) { return x; }
};
struct Div {
    template <class T> BF_HD static T value(T x, T z) { return x / z; }
    template <class T> BF_HD static T dx(T, T z) { return T(1) / z; }
    template <class T> BF_HD static T dz(T x, T z) { return -x / (z * z); }
};
// clang-format on

}  // namespace bf::math

/// Every unary op: (name of the function, functor).
#define BF_UNARY_OPS(X) \
    X(relu, Relu)       \
    X(sigmoid, Sigmoid) \
    X(tanh, Tanh)       \
    X(exp, Exp)         \
    X(log, Log)         \
    X(sqrt, Sqrt)       \
    X(square, Square)   \
    X(abs, Abs)         \
    X(affine, Affine)   \
    X(clamp, Clamp)

/// Every binary op of two tensors of one shape.
#define BF_BINARY_OPS(X) \
    X(add, Add)          \
    X(sub, Sub)          \
    X(mul, Mul)          \
    X(div, Div)

namespace bf {

#define BF_ENUM(name, Functor) name,
enum class Unary { BF_UNARY_OPS(BF_ENUM) };
enum class Binary { BF_BINARY_OPS(BF_ENUM) };
#undef BF_ENUM

}  // namespace bf
