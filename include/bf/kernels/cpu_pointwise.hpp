#pragma once
#include <cmath>
#include <tuple>

#include "bf/base/random.hpp"
#include "bf/core/parallel.hpp"
#include "bf/kernels/table.hpp"
#include "bf/kernels/visit.hpp"
#include "bf/math/element.hpp"

// CPU: copies, pointwise ops, reductions. The functors of math/ expanded into loops.

namespace bf::cpu {

inline constexpr std::int64_t pointwise_grain = 1 << 15;

/// body(i) for every element, in parallel.
template <class F>
void for_each(std::int64_t n, F&& body) {
    parallel_for(n, pointwise_grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) body(i);
    });
}

using math::element_cast;

template <class F>
void visit_any(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32: return f.template operator()<float>();
        case DType::f64: return f.template operator()<double>();
        case DType::bf16: return f.template operator()<bf16>();
        case DType::i32: return f.template operator()<std::int32_t>();
        case DType::i64: return f.template operator()<std::int64_t>();
        case DType::u8: return f.template operator()<std::uint8_t>();
    }
}

/// Transposes `batch` matrices [rows, cols] -> [cols, rows] while casting.
template <class From, class To>
void transpose_cast(std::int64_t batch, std::int64_t rows, std::int64_t cols, const From* x, To* y) {
    constexpr std::int64_t block = 32;
    const std::int64_t blocks = (rows + block - 1) / block;
    parallel_for(batch * blocks, 1, [&](std::int64_t task, std::int64_t) {
        const From* in = x + task / blocks * rows * cols;
        To* out = y + task / blocks * rows * cols;
        const std::int64_t r0 = task % blocks * block, r1 = std::min(rows, r0 + block);
        for (std::int64_t c0 = 0; c0 < cols; c0 += block)
            for (std::int64_t r = r0; r < r1; ++r)
                for (std::int64_t c = c0; c < std::min(cols, c0 + block); ++c)
                    out[c * rows + r] = element_cast<To>(in[r * cols + c]);
    });
}

inline void convert(Context&, const Tensor& x, const Tensor& y) {
    visit_any(x.dtype(), [&]<class From>() {
        visit_any(y.dtype(), [&]<class To>() {
            const From* in = x.data<From>();
            To* out = y.data<To>();
            if (x.format() == y.format()) {
                for_each(x.numel(), [&](std::int64_t i) { out[i] = element_cast<To>(in[i]); });
                return;
            }
            const std::int64_t plane = x.dim(2) * x.dim(3), c = x.dim(1);
            if (y.format() == Format::nhwc)
                transpose_cast(x.dim(0), c, plane, in, out);
            else
                transpose_cast(x.dim(0), plane, c, in, out);
        });
    });
}

/// What kernels without loops of their own for bf16 do with it: if one of the tensors is bf16, calls `kernel` with
/// copies in f32, narrows its last `outputs` tensors, and returns true. `adds`: the kernel reads them, too.
template <int outputs, bool adds = false, class... A>
bool widened(void (*kernel)(Context&, A...), Context& ctx, std::type_identity_t<A>... arguments) {
    const auto narrow = [](const auto& a) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a)>, Tensor>)
            return a.defined() && a.dtype() == DType::bf16;
        else
            return false;
    };
    if (!(narrow(arguments) || ...)) return false;
    constexpr int tensors = (0 + ... + static_cast<int>(std::is_same_v<std::remove_cvref_t<A>, Tensor>));
    int seen = 0;
    const auto wide = [&](const auto& a) -> std::remove_cvref_t<decltype(a)> {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a)>, Tensor>) {
            const bool output = seen++ >= tensors - outputs;
            if (!narrow(a)) return a;
            const Tensor copy = Tensor::empty(a.shape(), {DType::f32, a.device(), a.format()});
            if (adds || !output) convert(ctx, a, copy);
            return copy;
        } else {
            return a;
        }
    };
    std::tuple<std::remove_cvref_t<A>...> copies{wide(arguments)...};  // braces: in order
    std::apply([&](const auto&... copy) { kernel(ctx, copy...); }, copies);
    seen = 0;
    const auto give_back = [&](const auto& copy, const auto& a) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(a)>, Tensor>)
            if (seen++ >= tensors - outputs && narrow(a)) convert(ctx, copy, a);
    };
    std::apply([&](const auto&... copy) { (give_back(copy, arguments), ...); }, copies);
    return true;
}

inline void fill(Context&, const Tensor& y, double value) {
    visit_any(y.dtype(), [&]<class T>() { std::fill_n(y.data<T>(), y.numel(), element_cast<T>(value)); });
}

inline void axpby(Context&, double alpha, const Tensor& x, double beta, const Tensor& y) {
    visit_stored(y.dtype(), "axpby", [&]<class S>() {
        using T = math::Compute<S>;
        const T a = static_cast<T>(alpha), b = static_cast<T>(beta);
        const S* in = x.data<S>();
        S* out = y.data<S>();
        if (b == T(0))
            for_each(y.numel(), [&](std::int64_t i) { out[i] = element_cast<S>(a * element_cast<T>(in[i])); });
        else
            for_each(y.numel(), [&](std::int64_t i) {
                out[i] = element_cast<S>(a * element_cast<T>(in[i]) + b * element_cast<T>(out[i]));
            });
    });
}

inline void unary(Context& ctx, Unary op, double a, double b, const Tensor& x, const Tensor& y) {
    if (widened<1>(unary, ctx, op, a, b, x, y)) return;
    visit_real(x.dtype(), "unary", [&]<class T>() {
        visit_unary(op, [&]<class F>() {
            const T* in = x.data<T>();
            T* out = y.data<T>();
            const T p = static_cast<T>(a), q = static_cast<T>(b);
            for_each(x.numel(), [&](std::int64_t i) { out[i] = F::value(in[i], p, q); });
        });
    });
}

inline void unary_dx(Context& ctx, Unary op, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy,
                     const Tensor& dx) {
    if (widened<1>(unary_dx, ctx, op, a, b, x, y, dy, dx)) return;
    visit_real(x.dtype(), "unary", [&]<class T>() {
        visit_unary(op, [&]<class F>() {
            const T *in = x.data<T>(), *out = y.data<T>(), *g = dy.data<T>();
            T* d = dx.data<T>();
            const T p = static_cast<T>(a), q = static_cast<T>(b);
            for_each(x.numel(), [&](std::int64_t i) { d[i] = g[i] * F::slope(in[i], out[i], p, q); });
        });
    });
}

inline void binary(Context& ctx, Binary op, const Tensor& x, const Tensor& z, const Tensor& y) {
    if (widened<1>(binary, ctx, op, x, z, y)) return;
    visit_real(x.dtype(), "binary", [&]<class T>() {
        visit_binary(op, [&]<class F>() {
            const T *p = x.data<T>(), *q = z.data<T>();
            T* out = y.data<T>();
            for_each(x.numel(), [&](std::int64_t i) { out[i] = F::value(p[i], q[i]); });
        });
    });
}

template <bool first>
void binary_gradient(Binary op, const Tensor& x, const Tensor& z, const Tensor& dy, const Tensor& out) {
    visit_real(x.dtype(), "binary", [&]<class T>() {
        visit_binary(op, [&]<class F>() {
            const T *p = x.data<T>(), *q = z.data<T>(), *g = dy.data<T>();
            T* d = out.data<T>();
            for_each(x.numel(), [&](std::int64_t i) { d[i] = g[i] * (first ? F::dx(p[i], q[i]) : F::dz(p[i], q[i])); });
        });
    });
}
inline void binary_dx(Context& ctx, Binary op, const Tensor& x, const Tensor& z, const Tensor& dy, const Tensor& dx) {
    if (widened<1>(binary_dx, ctx, op, x, z, dy, dx)) return;
    binary_gradient<true>(op, x, z, dy, dx);
}
inline void binary_dz(Context& ctx, Binary op, const Tensor& x, const Tensor& z, const Tensor& dy, const Tensor& dz) {
    if (widened<1>(binary_dz, ctx, op, x, z, dy, dz)) return;
    binary_gradient<false>(op, x, z, dy, dz);
}

/// y = x / (1 - p) where the draw of the element is at least p, else 0. The same call on dy is the backward pass.
inline void dropout(Context& ctx, double p, std::uint64_t seed, std::uint64_t step, const Tensor& x, const Tensor& y) {
    if (widened<1>(dropout, ctx, p, seed, step, x, y)) return;
    visit_real(x.dtype(), "dropout", [&]<class T>() {
        const T* in = x.data<T>();
        T* out = y.data<T>();
        const float threshold = static_cast<float>(p);
        const T keep = static_cast<T>(1 / (1 - p));
        for_each(x.numel(), [&](std::int64_t i) {
            const float u = random_uniform(seed, Stream::dropout, step, static_cast<std::uint64_t>(i));
            out[i] = u >= threshold ? in[i] * keep : T(0);
        });
    });
}

/// Reduction of contiguous x[0..n): sixteen lanes that the compiler vectorises, then the lanes in order.
template <class F, class T>
T reduce_run(const T* x, std::int64_t n) {
    constexpr int lanes = 16;
    T acc[lanes];
    for (T& a : acc) a = F::template identity<T>();
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int k = 0; k < lanes; ++k) acc[k] = F::combine(acc[k], F::map(x[i + k]));
    for (; i < n; ++i) acc[i % lanes] = F::combine(acc[i % lanes], F::map(x[i]));
    for (int k = 1; k < lanes; ++k) acc[0] = F::combine(acc[0], acc[k]);
    return acc[0];
}

inline void reduce(Context& ctx, Reduce op, std::int64_t outer, std::int64_t n, std::int64_t inner, const Tensor& x,
                   const Tensor& y) {
    if (widened<1>(reduce, ctx, op, outer, n, inner, x, y)) return;
    visit_real(x.dtype(), "reduce", [&]<class T>() {
        visit_reduce(op, [&]<class F>() {
            const T* in = x.data<T>();
            T* out = y.data<T>();
            const T count = static_cast<T>(n);
            if (inner == 1 && outer == 1) {  // a whole tensor: pieces in parallel, joined in order, in f64
                constexpr std::int64_t piece = 1 << 14;
                const std::int64_t pieces = (n + piece - 1) / piece;
                const Tensor partial = Tensor::empty({pieces}, {.dtype = x.dtype()});
                T* parts = partial.data<T>();
                parallel_for(pieces, 4, [&](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t p = begin; p < end; ++p)
                        parts[p] = reduce_run<F>(in + p * piece, std::min(piece, n - p * piece));
                });
                double acc = F::template identity<double>();
                for (std::int64_t p = 0; p < pieces; ++p) acc = F::combine(acc, static_cast<double>(parts[p]));
                out[0] = static_cast<T>(F::finish(acc, static_cast<double>(n)));
            } else if (inner == 1) {
                parallel_for(outer, std::max<std::int64_t>(1, pointwise_grain / std::max<std::int64_t>(1, n)),
                             [&](std::int64_t begin, std::int64_t end) {
                                 for (std::int64_t o = begin; o < end; ++o)
                                     out[o] = F::finish(reduce_run<F>(in + o * n, n), count);
                             });
            } else {  // columns: each task owns a strip of one outer block
                constexpr std::int64_t strip = 256;
                const std::int64_t strips = (inner + strip - 1) / strip;
                parallel_for(outer * strips, 1, [&](std::int64_t task, std::int64_t) {
                    const std::int64_t o = task / strips, begin = task % strips * strip;
                    const std::int64_t width = std::min(strip, inner - begin);
                    T acc[strip];
                    for (std::int64_t i = 0; i < width; ++i) acc[i] = F::template identity<T>();
                    for (std::int64_t r = 0; r < n; ++r) {
                        const T* row = in + (o * n + r) * inner + begin;
                        for (std::int64_t i = 0; i < width; ++i) acc[i] = F::combine(acc[i], F::map(row[i]));
                    }
                    for (std::int64_t i = 0; i < width; ++i) out[o * inner + begin + i] = F::finish(acc[i], count);
                });
            }
        });
    });
}

inline void reduce_dx(Context& ctx, Reduce op, std::int64_t outer, std::int64_t n, std::int64_t inner, const Tensor& x,
                      const Tensor& y, const Tensor& dy, const Tensor& dx) {
    if (widened<1>(reduce_dx, ctx, op, outer, n, inner, x, y, dy, dx)) return;
    visit_real(x.dtype(), "reduce", [&]<class T>() {
        visit_reduce(op, [&]<class F>() {
            const T *in = x.data<T>(), *result = y.data<T>(), *g = dy.data<T>();
            T* d = dx.data<T>();
            const T count = static_cast<T>(n);
            parallel_for(outer * n, std::max<std::int64_t>(1, pointwise_grain / std::max<std::int64_t>(1, inner)),
                         [&](std::int64_t begin, std::int64_t end) {
                             for (std::int64_t r = begin; r < end; ++r)
                                 for (std::int64_t i = 0; i < inner; ++i) {
                                     const std::int64_t at = r * inner + i, to = r / n * inner + i;
                                     d[at] = g[to] * F::slope(in[at], result[to], count);
                                 }
                         });
        });
    });
}

}  // namespace bf::cpu
