#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

namespace detail {
/// Image tensors go through the per-channel ops in nhwc order; rows [M, C] as they are.
inline Var channels_last(const Var& x, const char* op) {
    BF_CHECK(x.shape().rank() == 2 || x.shape().rank() == 4, op, "want [M, C] or [N, C, H, W]; got ", x.value().str());
    return x.shape().rank() == 4 ? to_format(x, Format::nhwc) : x;
}
inline void check_channels(const char* op, const char* what, const Tensor& t, const Var& x) {
    BF_CHECK(t.shape() == Shape{x.shape()[1]} && parameter_fits(t, x.value()), op, what, " differs; got ", t.str(),
             ", want [", x.shape()[1], "] for ", x.value().str());
}
}  // namespace detail

/// What a batch norm v = bn(x) does besides in the same pass over memory; at most one of them, none is plain v.
struct BatchNormFusion {
    Var slope = {};     ///< [C]: y = prelu(v). v is not kept, the gradient computes it again from x.
    Var residual = {};  ///< like x: y = v + residual. Nothing is kept for it, its gradient is dy itself.
};

namespace detail {
/// A checked batch norm: the images in nhwc order, what it is fused with, and its backward pass.
struct BatchNormCall {
    Var x, gamma, beta, slope, residual;

    BatchNormCall(const Var& input, const Var& gamma_, const Var& beta_, const BatchNormFusion& fusion)
        : x(channels_last(input, "batch_norm")), gamma(gamma_), beta(beta_), slope(fusion.slope) {
        check_channels("batch_norm", "gamma", gamma.value(), x);
        check_channels("batch_norm", "beta", beta.value(), x);
        const Tensor& added = fusion.residual.value();
        BF_CHECK(!slope.value().defined() || !added.defined(), "batch_norm",
                 "want a slope or a residual, got both; hint: prelu() or add() for the other");
        if (slope.value().defined()) check_channels("batch_norm", "slope", slope.value(), x);
        if (!added.defined()) return;
        BF_CHECK(
            added.shape() == x.shape() && added.dtype() == x.value().dtype() && added.device() == x.value().device(),
            "batch_norm", "residual differs; got ", added.str(), ", want ", x.value().str());
        residual = channels_last(fusion.residual, "batch_norm");
    }

    /// Tells a Trace: x, gamma, beta, running mean and variance, slope, residual.
    void tell(const char* name, const Tensor& y, const Tensor& mean, const Tensor& variance, double epsilon) const {
        if (Trace* t = Trace::current())
            t->add({name,
                    {x.value(), gamma.value(), beta.value(), mean, variance, slope.value(), residual.value()},
                    y,
                    {{"epsilon", epsilon}}});
    }
    /// y with its graph; `dx_kernel` of the table gives the gradients.
    Var record_with(const Tensor& y, const Tensor& mean, const Tensor& inverse_std,
                    decltype(KernelTable::batch_norm_train_dx) dx_kernel) const {
        return record(y, {x, gamma, beta, slope, residual},
                      [x = x, gamma = gamma, beta = beta, slope = slope, residual = residual.sink(), mean, inverse_std,
                       dx_kernel](const Tensor& dy) {
                          Tensor dx = empty_like(x.value()), dgamma = empty_like(mean), dbeta = empty_like(mean),
                                 dslope;
                          if (slope.value().defined()) dslope = empty_like(mean);
                          dx_kernel(context(dy.device()), x.value(), dy, gamma.value(), beta.value(), mean, inverse_std,
                                    slope.value(), dx, dgamma, dbeta, dslope);
                          x.accumulate(dx);
                          gamma.accumulate(dgamma);
                          beta.accumulate(dbeta);
                          slope.accumulate(dslope);
                          residual.accumulate(dy);
                      });
    }
};
}  // namespace detail

/// Batch norm with the statistics of the batch: gamma, beta [C]. running_mean and running_var [C], when defined,
/// become (1 - momentum) old + momentum new in place (new variance unbiased). Source: PyTorch's convention.
inline Var batch_norm_train(const Var& input, const Var& gamma, const Var& beta, const Tensor& running_mean,
                            const Tensor& running_var, double momentum = 0.1, double epsilon = 1e-5,
                            const BatchNormFusion& fusion = {}) {
    const detail::BatchNormCall call(input, gamma, beta, fusion);
    const Tensor& x = call.x.value();
    BF_CHECK(running_mean.defined() == running_var.defined(), "batch_norm", "want both running statistics or neither");
    if (running_mean.defined()) {
        detail::check_channels("batch_norm", "running mean", running_mean, call.x);
        detail::check_channels("batch_norm", "running variance", running_var, call.x);
    }
    BF_CHECK(x.numel() / std::max<std::int64_t>(1, x.dim(1)) > 1, "batch_norm",
             "training wants more than one value a channel; got ", x.str(), "; hint: a larger batch, or eval mode");
    const KernelTable& table = kernels(x.device());
    Tensor y = empty_like(x), mean = empty_like(gamma.value()), inverse_std = empty_like(mean);
    table.batch_norm_train(context(x.device()), x, gamma.value(), beta.value(), epsilon, call.slope.value(),
                           call.residual.value(), y, mean, inverse_std, momentum, running_mean, running_var);
    call.tell("batch_norm_train", y, running_mean, running_var, epsilon);
    return call.record_with(y, mean, inverse_std, table.batch_norm_train_dx);
}

/// Batch norm with given statistics (running mean and variance [C]).
inline Var batch_norm_eval(const Var& input, const Var& gamma, const Var& beta, const Tensor& running_mean,
                           const Tensor& running_var, double epsilon = 1e-5, const BatchNormFusion& fusion = {}) {
    const detail::BatchNormCall call(input, gamma, beta, fusion);
    const Tensor& x = call.x.value();
    detail::check_channels("batch_norm", "running mean", running_mean, call.x);
    detail::check_channels("batch_norm", "running variance", running_var, call.x);
    const KernelTable& table = kernels(x.device());
    Tensor y = empty_like(x), inverse_std = empty_like(running_var);
    table.inverse_std(context(x.device()), running_var, epsilon, inverse_std);
    table.batch_norm_eval(context(x.device()), x, gamma.value(), beta.value(), running_mean, inverse_std,
                          call.slope.value(), call.residual.value(), y);
    call.tell("batch_norm_eval", y, running_mean, running_var, epsilon);
    return call.record_with(y, running_mean, inverse_std, table.batch_norm_eval_dx);
}

/// y = x where x > 0, else slope[c] x: slope [C].
inline Var prelu(const Var& input, const Var& slope) {
    const Var x = detail::channels_last(input, "prelu");
    detail::check_channels("prelu", "slope", slope.value(), x);
    const Device device = x.value().device();
    Tensor y = empty_like(x.value());
    kernels(device).prelu(context(device), x.value(), slope.value(), y);
    if (Trace* t = Trace::current()) t->add({"prelu", {x.value(), slope.value()}, y, {}});
    return record(y, {x, slope}, [=](const Tensor& dy) {
        Tensor dx = empty_like(dy), dslope = empty_like(slope.value());
        kernels(device).prelu_dx(context(device), x.value(), slope.value(), dy, dx, dslope);
        x.accumulate(dx);
        slope.accumulate(dslope);
    });
}

}  // namespace bf
