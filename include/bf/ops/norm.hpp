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

/// Batch norm with the statistics of the batch: gamma, beta [C]. running_mean and running_var [C], when defined,
/// become (1 - momentum) old + momentum new in place (new variance unbiased). Source: PyTorch's convention.
inline Var batch_norm_train(const Var& input, const Var& gamma, const Var& beta, const Tensor& running_mean,
                            const Tensor& running_var, double momentum = 0.1, double epsilon = 1e-5) {
    const Var x = detail::channels_last(input, "batch_norm");
    detail::check_channels("batch_norm", "gamma", gamma.value(), x);
    detail::check_channels("batch_norm", "beta", beta.value(), x);
    BF_CHECK(running_mean.defined() == running_var.defined(), "batch_norm", "want both running statistics or neither");
    if (running_mean.defined()) {
        detail::check_channels("batch_norm", "running mean", running_mean, x);
        detail::check_channels("batch_norm", "running variance", running_var, x);
    }
    BF_CHECK(x.value().numel() / std::max<std::int64_t>(1, x.shape()[1]) > 1, "batch_norm",
             "training wants more than one value a channel; got ", x.value().str(),
             "; hint: a larger batch, or eval mode");
    const Device device = x.value().device();
    Tensor y = empty_like(x.value()), mean = empty_like(gamma.value()), inverse_std = empty_like(mean);
    kernels(device).batch_norm_train(context(device), x.value(), gamma.value(), beta.value(), epsilon, y, mean,
                                     inverse_std, momentum, running_mean, running_var);
    return record(y, {x, gamma, beta}, [=, beta = beta.sink()](const Tensor& dy) {
        Tensor dx = empty_like(x.value()), dgamma = empty_like(mean), dbeta = empty_like(mean);
        kernels(device).batch_norm_train_dx(context(device), x.value(), dy, gamma.value(), mean, inverse_std, dx,
                                            dgamma, dbeta);
        x.accumulate(dx);
        gamma.accumulate(dgamma);
        beta.accumulate(dbeta);
    });
}

/// Batch norm with given statistics (running mean and variance [C]).
inline Var batch_norm_eval(const Var& input, const Var& gamma, const Var& beta, const Tensor& running_mean,
                           const Tensor& running_var, double epsilon = 1e-5) {
    const Var x = detail::channels_last(input, "batch_norm");
    detail::check_channels("batch_norm", "gamma", gamma.value(), x);
    detail::check_channels("batch_norm", "beta", beta.value(), x);
    detail::check_channels("batch_norm", "running mean", running_mean, x);
    detail::check_channels("batch_norm", "running variance", running_var, x);
    const Device device = x.value().device();
    Tensor y = empty_like(x.value()), inverse_std = empty_like(running_var);
    kernels(device).inverse_std(context(device), running_var, epsilon, inverse_std);
    kernels(device).batch_norm_eval(context(device), x.value(), gamma.value(), beta.value(), running_mean, inverse_std,
                                    y);
    return record(y, {x, gamma, beta}, [=, beta = beta.sink()](const Tensor& dy) {
        Tensor dx = empty_like(x.value()), dgamma = empty_like(running_mean), dbeta = empty_like(running_mean);
        kernels(device).batch_norm_eval_dx(context(device), x.value(), dy, gamma.value(), running_mean, inverse_std, dx,
                                           dgamma, dbeta);
        x.accumulate(dx);
        gamma.accumulate(dgamma);
        beta.accumulate(dbeta);
    });
}

/// y = x where x > 0, else slope[c] x: slope [C].
inline Var prelu(const Var& input, const Var& slope) {
    const Var x = detail::channels_last(input, "prelu");
    detail::check_channels("prelu", "slope", slope.value(), x);
    const Device device = x.value().device();
    Tensor y = empty_like(x.value());
    kernels(device).prelu(context(device), x.value(), slope.value(), y);
    return record(y, {x, slope}, [=](const Tensor& dy) {
        Tensor dx = empty_like(dy), dslope = empty_like(slope.value());
        kernels(device).prelu_dx(context(device), x.value(), slope.value(), dy, dx, dslope);
        x.accumulate(dx);
        slope.accumulate(dslope);
    });
}

}  // namespace bf
