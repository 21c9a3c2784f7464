#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

namespace detail {
inline Tensor product(bool trans_a, bool trans_b, const Tensor& a, const Tensor& b) {
    Tensor c = Tensor::empty({trans_a ? a.dim(1) : a.dim(0), trans_b ? b.dim(0) : b.dim(1)}, {a.dtype(), a.device()});
    kernels(c.device()).gemm(context(c.device()), trans_a, trans_b, 1, a, b, 0, c);
    return c;
}
}  // namespace detail

/// a [M, K] times b [K, N]: [M, N].
inline Var matmul(const Var& a, const Var& b) {
    BF_CHECK(a.shape().rank() == 2 && b.shape().rank() == 2 && a.shape()[1] == b.shape()[0] &&
                 a.value().dtype() == b.value().dtype(),
             "matmul", "operands do not fit; got ", a.value().str(), " and ", b.value().str());
    Tensor y = detail::product(false, false, a.value(), b.value());
    if (Trace* t = Trace::current()) t->add({"matmul", {a.value(), b.value()}, y, {}});
    return record(y, {a, b}, [a, b](const Tensor& dy) {
        if (a.requires_grad()) a.accumulate(detail::product(false, true, dy, b.value()));
        if (b.requires_grad()) b.accumulate(detail::product(true, false, a.value(), dy));
    });
}

/// y = x w^T + bias: x [M, in], w [out, in], bias [out] or undefined.
inline Var linear(const Var& x, const Var& w, const Var& bias = Var()) {
    BF_CHECK(x.shape().rank() == 2 && w.shape().rank() == 2 && x.shape()[1] == w.shape()[1] &&
                 x.value().dtype() == w.value().dtype(),
             "linear", "features differ; got x ", x.value().str(), ", weight ", w.value().str());
    const bool has_bias = bias.value().defined();
    BF_CHECK(!has_bias || bias.shape() == Shape{w.shape()[0]}, "linear", "bias differs; got ", bias.value().str(),
             ", want [", w.shape()[0], "]");
    const Device device = x.value().device();
    Tensor y = Tensor::empty({x.shape()[0], w.shape()[0]}, x.value().options());
    if (has_bias) kernels(device).broadcast_rows(context(device), bias.value(), y);
    kernels(device).gemm(context(device), false, true, 1, x.value(), w.value(), has_bias ? 1 : 0, y);
    if (Trace* t = Trace::current()) t->add({"linear", {x.value(), w.value(), bias.value()}, y, {}});
    return record(y, {x, w, bias}, [=](const Tensor& dy) {
        if (x.requires_grad()) x.accumulate(detail::product(false, false, dy, w.value()));
        if (w.requires_grad()) w.accumulate(detail::product(true, false, dy, x.value()));
        if (bias.requires_grad()) {
            Tensor db = empty_like(bias.value());
            kernels(device).reduce(context(device), Reduce::sum, 1, dy.dim(0), dy.dim(1), dy, db);
            bias.accumulate(db);
        }
    });
}

/// Rows of x [M, D] divided by their L2 norm (at least 1e-12).
inline Var normalize_rows(const Var& x) {
    BF_CHECK(x.shape().rank() == 2, "normalize_rows", "want [M, D]; got ", x.value().str());
    const Device device = x.value().device();
    Tensor y = empty_like(x.value()), inverse = Tensor::empty({x.shape()[0]}, x.value().options());
    kernels(device).normalize_rows(context(device), x.value(), y, inverse);
    if (Trace* t = Trace::current()) t->add({"normalize_rows", {x.value()}, y, {}});
    return record(y, {x}, [=, sink = x.sink()](const Tensor& dy) {
        Tensor dx = empty_like(dy);
        kernels(device).normalize_rows_dx(context(device), y, inverse, dy, dx);
        sink.accumulate(dx);
    });
}

/// Row losses -log softmax(logits)[label]: logits [M, K], labels [M] i64 in 0..K-1; [M]. mean() gives the usual loss.
inline Var softmax_cross_entropy(const Var& logits, const Tensor& labels) {
    BF_CHECK(logits.shape().rank() == 2 && labels.shape() == Shape{logits.shape()[0]} && labels.dtype() == DType::i64,
             "softmax_cross_entropy", "operands do not fit; got logits ", logits.value().str(), ", labels ",
             labels.str());
    if (labels.device() == cpu_device)  // looking at them elsewhere would wait for the device
        for (std::int64_t y : labels.span<std::int64_t>())
            BF_CHECK(y >= 0 && y < logits.shape()[1], "softmax_cross_entropy", "label out of range; got ", y,
                     ", want 0..", logits.shape()[1] - 1);
    const Device device = logits.value().device();
    Tensor loss = Tensor::empty(labels.shape(), logits.value().options()), log_sum_exp = empty_like(loss);
    kernels(device).softmax_cross_entropy(context(device), logits.value(), labels, loss, log_sum_exp);
    if (Trace* t = Trace::current()) t->add({"softmax_cross_entropy", {logits.value(), labels}, loss, {}});
    return record(loss, {logits}, [=](const Tensor& dy) {
        Tensor dx = empty_like(logits.value());
        kernels(device).softmax_cross_entropy_dx(context(device), logits.value(), labels, log_sum_exp, dy, dx);
        logits.accumulate(dx);
    });
}

}  // namespace bf
