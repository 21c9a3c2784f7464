#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

/// A square pooling window.
struct PoolOptions {
    std::int64_t kernel = 2;
    std::int64_t stride = 2;
    std::int64_t pad = 0;
};

namespace detail {
inline PoolGeometry pool_geometry(const Var& x, std::int64_t kernel_h, std::int64_t kernel_w, const PoolOptions& o,
                                  const char* op) {
    BF_CHECK(x.shape().rank() == 4, op, "want [N, C, H, W]; got ", x.value().str());
    BF_CHECK(o.stride >= 1 && o.pad >= 0 && 2 * o.pad <= std::min(kernel_h, kernel_w) && kernel_h > 0 && kernel_w > 0,
             op, "options; got kernel ", kernel_h, ", stride ", o.stride, ", pad ", o.pad, "; want pad <= kernel / 2");
    PoolGeometry g{x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3], kernel_h, kernel_w, o.stride, o.pad};
    BF_CHECK(g.h + 2 * g.pad >= kernel_h && g.w + 2 * g.pad >= kernel_w, op, "image smaller than the window; got ",
             x.value().str(), ", kernel ", kernel_h);
    return g;
}
inline void tell(const char* name, const Var& x, const Tensor& y, const PoolGeometry& g) {
    if (Trace* t = Trace::current())
        t->add({name,
                {x.value()},
                y,
                {{"kernel_h", g.kernel_h}, {"kernel_w", g.kernel_w}, {"stride", g.stride}, {"pad", g.pad}}});
}
inline Var avg_pool(const Var& input, std::int64_t kernel_h, std::int64_t kernel_w, const PoolOptions& options) {
    const Var x = to_format(input, Format::nhwc);
    const PoolGeometry g = pool_geometry(x, kernel_h, kernel_w, options, "avg_pool2d");
    const TensorOptions made = x.value().options();
    Tensor y = Tensor::empty({g.n, g.c, g.h_out(), g.w_out()}, made);
    kernels(made.device).avg_pool(context(made.device), g, x.value(), y);
    tell("avg_pool2d", x, y, g);
    return record(y, {x}, [=, sink = x.sink()](const Tensor& grad) {
        Tensor dx = Tensor::empty(sink.shape(), made);
        kernels(made.device).avg_pool_dx(context(made.device), g, converted(grad, grad.dtype(), Format::nhwc), dx);
        sink.accumulate(dx);
    });
}
}  // namespace detail

/// Largest value of each window; ties go to the first in row order.
inline Var max_pool2d(const Var& input, const PoolOptions& options = {}) {
    const Var x = to_format(input, Format::nhwc);
    const PoolGeometry g = detail::pool_geometry(x, options.kernel, options.kernel, options, "max_pool2d");
    const TensorOptions made = x.value().options();
    Tensor y = Tensor::empty({g.n, g.c, g.h_out(), g.w_out()}, made);
    Tensor index = Tensor::empty(y.shape(), {DType::i64, made.device, Format::nhwc});
    kernels(made.device).max_pool(context(made.device), g, x.value(), y, index);
    detail::tell("max_pool2d", x, y, g);
    return record(y, {x}, [=, sink = x.sink()](const Tensor& grad) {
        Tensor dx = Tensor::empty(sink.shape(), made);
        kernels(made.device)
            .max_pool_dx(context(made.device), g, converted(grad, grad.dtype(), Format::nhwc), index, dx);
        sink.accumulate(dx);
    });
}

/// Mean of each window; padding counts as zeros (PyTorch's default).
inline Var avg_pool2d(const Var& x, const PoolOptions& options = {}) {
    return detail::avg_pool(x, options.kernel, options.kernel, options);
}

/// Mean over the image plane: [N, C, H, W] to [N, C, 1, 1].
inline Var global_avg_pool(const Var& x) {
    BF_CHECK(x.shape().rank() == 4, "global_avg_pool", "want [N, C, H, W]; got ", x.value().str());
    return detail::avg_pool(x, x.shape()[2], x.shape()[3], {.stride = 1});
}

}  // namespace bf
