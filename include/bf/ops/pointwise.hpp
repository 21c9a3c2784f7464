#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

/// "relu", "sigmoid", ...
inline const char* name_of(Unary op) {
#define BF_OP(name, Functor) #name,
    constexpr const char* names[] = {BF_UNARY_OPS(BF_OP)};
#undef BF_OP
    return names[static_cast<std::size_t>(op)];
}

/// y = op(x), element by element; a and b are the op's parameters (math/pointwise.hpp).
inline Var unary(Unary op, const Var& x, double a = 0, double b = 0) {
    const Device device = x.value().device();
    Tensor y = empty_like(x.value());
    kernels(device).unary(context(device), op, a, b, x.value(), y);
    if (Trace* t = Trace::current()) t->add({name_of(op), {x.value()}, y, {{"a", a}, {"b", b}}});
    return record(y, {x}, [=, in = x.value(), sink = x.sink()](const Tensor& dy) {
        Tensor dx = empty_like(dy);
        kernels(device).unary_dx(context(device), op, a, b, in, y, dy, dx);
        sink.accumulate(dx);
    });
}

/// y = op(x, z), element by element; shapes and dtypes are equal.
inline Var binary(Binary op, const char* name, const Var& x, const Var& other) {
    BF_CHECK(x.shape() == other.shape() && x.value().dtype() == other.value().dtype(), name, "operands differ; got ",
             x.value().str(), " and ", other.value().str());
    const Var z = to_format(other, x.value().format());
    const Device device = x.value().device();
    Tensor y = empty_like(x.value());
    kernels(device).binary(context(device), op, x.value(), z.value(), y);
    const bool linear = op == Binary::add || op == Binary::sub;  // their gradients need no forward value
    if (Trace* t = Trace::current()) t->add({name, {x.value(), z.value()}, y, {}});
    return record(y, {x, z},
                  [=, saved_x = linear ? Tensor() : x.value(), saved_z = linear ? Tensor() : z.value(), sx = x.sink(),
                   sz = z.sink()](const Tensor& dy) {
                      if (op == Binary::add) {
                          sx.accumulate(dy);
                          sz.accumulate(dy);
                          return;
                      }
                      const Tensor& p = linear ? dy : saved_x;
                      const Tensor& q = linear ? dy : saved_z;
                      if (sx.requires_grad()) {
                          Tensor dx = empty_like(dy);
                          kernels(device).binary_dx(context(device), op, p, q, dy, dx);
                          sx.accumulate(dx);
                      }
                      if (sz.requires_grad()) {
                          Tensor dz = empty_like(dy);
                          kernels(device).binary_dz(context(device), op, p, q, dy, dz);
                          sz.accumulate(dz);
                      }
                  });
}

// relu(x), sigmoid(x), ... : one function a line of the list. affine(x, a, b) and clamp(x, a, b) use the parameters.
#define BF_OP(name, Functor) \
    inline Var name(const Var& x, double a = 0, double b = 0) { return unary(Unary::name, x, a, b); }
BF_UNARY_OPS(BF_OP)
#undef BF_OP
#define BF_OP(name, Functor) \
    inline Var name(const Var& x, const Var& z) { return binary(Binary::name, #name, x, z); }
BF_BINARY_OPS(BF_OP)
#undef BF_OP

inline Var operator+(const Var& x, const Var& z) { return add(x, z); }
inline Var operator-(const Var& x, const Var& z) { return sub(x, z); }
inline Var operator*(const Var& x, const Var& z) { return mul(x, z); }
inline Var operator/(const Var& x, const Var& z) { return div(x, z); }
inline Var operator*(double a, const Var& x) { return affine(x, a, 0); }
inline Var operator+(const Var& x, double b) { return affine(x, 1, b); }

/// Each element is 0 with probability p, else x / (1 - p). The mask is a function of (seed, step, position), so it
/// is drawn again in the backward pass instead of being kept.
inline Var dropout(const Var& x, double p, std::uint64_t seed, std::uint64_t step) {
    BF_CHECK(p >= 0 && p < 1, "dropout", "probability; got ", p, ", want 0 <= p < 1");
    if (p == 0) return x;
    const Device device = x.value().device();
    Tensor y = empty_like(x.value());
    kernels(device).dropout(context(device), p, seed, step, x.value(), y);
    if (Trace* t = Trace::current()) t->add({"dropout", {x.value()}, y, {{"p", p}}});
    return record(y, {x}, [=, sink = x.sink()](const Tensor& dy) {
        Tensor dx = empty_like(dy);
        kernels(device).dropout(context(device), p, seed, step, dy, dx);
        sink.accumulate(dx);
    });
}

}  // namespace bf
