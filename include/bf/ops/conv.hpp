#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

/// How a convolution slides. Square strides and padding.
struct Conv2dOptions {
    std::int64_t stride = 1;
    std::int64_t pad = 0;
    std::int64_t groups = 1;
    ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

/// Cross-correlation of x [N, C, H, W] with w [out, C / groups, kh, kw] (the layout of PyTorch's weights), without a
/// bias: [N, out, H', W'], H' = (H + 2 pad - kh) / stride + 1. The result is in nhwc order.
inline Var conv2d(const Var& input, const Var& w, const Conv2dOptions& options = {}) {
    const Shape& ws = w.shape();
    BF_CHECK(input.shape().rank() == 4 && ws.rank() == 4, "conv2d", "want 4-d input and weight; got ",
             input.value().str(), ", weight ", w.value().str());
    BF_CHECK(w.value().numel() > 0, "conv2d", "empty weight; got ", w.value().str());
    BF_CHECK(parameter_fits(w.value(), input.value()), "conv2d", "dtypes differ; got ", input.value().str(),
             ", weight ", w.value().str());
    BF_CHECK(options.stride >= 1 && options.pad >= 0 && options.groups >= 1, "conv2d", "options; got stride ",
             options.stride, ", pad ", options.pad, ", groups ", options.groups);
    BF_CHECK(input.shape()[1] == ws[1] * options.groups && ws[0] % options.groups == 0, "conv2d",
             "channels differ; got ", input.value().str(), ", want C = ", ws[1] * options.groups, " (weight ", ws,
             ", groups ", options.groups, ")");
    const Var x = to_format(input, Format::nhwc);
    const ConvGeometry g{.n = x.shape()[0],
                         .c_in = x.shape()[1],
                         .h = x.shape()[2],
                         .w = x.shape()[3],
                         .c_out = ws[0],
                         .kernel_h = ws[2],
                         .kernel_w = ws[3],
                         .stride = options.stride,
                         .pad = options.pad,
                         .groups = options.groups};
    BF_CHECK(g.h + 2 * g.pad >= g.kernel_h && g.w + 2 * g.pad >= g.kernel_w, "conv2d",
             "image smaller than the kernel; got ", x.value().str(), ", weight ", ws);
    const Device device = x.value().device();
    const ConvAlgorithm algorithm = options.algorithm;
    Tensor y = Tensor::empty({g.n, g.c_out, g.h_out(), g.w_out()}, x.value().options());
    kernels(device).conv2d(context(device), g, algorithm, x.value(), w.value(), y);
    if (Trace* t = Trace::current())
        t->add({"conv2d", {x.value(), w.value()}, y, {{"stride", g.stride}, {"pad", g.pad}, {"groups", g.groups}}});
    return record(y, {x, w}, [=](const Tensor& grad) {
        const Tensor dy = converted(grad, grad.dtype(), Format::nhwc);
        if (x.requires_grad()) {
            Tensor dx = empty_like(x.value());
            kernels(device).conv2d_dx(context(device), g, algorithm, dy, w.value(), dx);
            x.accumulate(dx);
        }
        if (w.requires_grad()) {
            Tensor dw = empty_like(w.value());
            kernels(device).conv2d_dw(context(device), g, algorithm, x.value(), dy, dw);
            w.accumulate(dw);
        }
    });
}

}  // namespace bf
