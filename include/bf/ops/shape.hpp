#pragma once
#include "bf/autograd/var.hpp"

namespace bf {

/// A new tensor like x (shape, dtype, device, format) with unspecified contents.
inline Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.options()); }

/// Parameters have the dtype of the data they work on, or are f32 beside bf16 data.
inline bool parameter_fits(const Tensor& parameter, const Tensor& data) {
    return parameter.dtype() == data.dtype() || (parameter.dtype() == DType::f32 && data.dtype() == DType::bf16);
}

/// x in another dtype and format, without a graph; x itself when nothing changes.
inline Tensor converted(const Tensor& x, DType dtype, Format format) {
    if (x.dtype() == dtype && x.format() == format) return x;
    Tensor y = Tensor::empty(x.shape(), {dtype, x.device(), format});
    kernels(x.device()).convert(context(x.device()), x, y);
    return y;
}

/// x [N, C, H, W] in another memory order; the shape stays as written.
inline Var to_format(const Var& x, Format format) {
    const Format before = x.value().format();
    if (before == format) return x;
    Tensor y = converted(x.value(), x.value().dtype(), format);
    if (Trace* t = Trace::current()) t->add({"to_format", {x.value()}, y, {}});
    return record(y, {x},
                  [x = x.sink(), before](const Tensor& dy) { x.accumulate(converted(dy, dy.dtype(), before)); });
}

/// x in another dtype; the gradient comes back in x's.
inline Var cast(const Var& x, DType dtype) {
    const DType before = x.value().dtype();
    if (before == dtype) return x;
    Tensor y = converted(x.value(), dtype, x.value().format());
    if (Trace* t = Trace::current()) t->add({"cast", {x.value()}, y, {}});
    return record(y, {x},
                  [x = x.sink(), before](const Tensor& dy) { x.accumulate(converted(dy, before, dy.format())); });
}

/// The same elements under another shape; an image is brought to N, C, H, W order first.
inline Var reshape(const Var& x, const Shape& shape) {
    const Var plain = to_format(x, Format::plain);
    Tensor y = plain.value().reshape(shape);
    if (Trace* t = Trace::current()) t->add({"reshape", {plain.value()}, y, {}});
    return record(y, {plain}, [x = plain.sink()](const Tensor& dy) { x.accumulate(dy.reshape(x.shape())); });
}

/// [N, ...] to [N, rest], channel-major as PyTorch flattens an image.
inline Var flatten(const Var& x) {
    const std::int64_t n = x.shape().rank() ? x.shape()[0] : 1;
    std::int64_t rest = 1;
    for (int i = 1; i < x.shape().rank(); ++i) rest *= x.shape()[i];
    return reshape(x, {n, rest});
}

/// Rows x[index[i]] of a matrix [M, D]: [n, D]. index [n] i64 on the same device; its range is checked on the host.
inline Var gather_rows(const Var& x, const Tensor& index) {
    BF_CHECK(x.shape().rank() == 2 && index.rank() == 1 && index.dtype() == DType::i64, "gather_rows",
             "want a matrix and an i64 index; got ", x.value().str(), " and ", index.str());
    if (index.device() == cpu_device)  // looking at it elsewhere would wait for the device
        for (std::int64_t i : index.span<std::int64_t>())
            BF_CHECK(i >= 0 && i < x.shape()[0], "gather_rows", "index out of range; got ", i, ", want 0..",
                     x.shape()[0] - 1);
    Tensor y = Tensor::empty({index.dim(0), x.shape()[1]}, x.value().options());
    kernels(y.device()).gather_rows(context(y.device()), x.value(), index, y);
    if (Trace* t = Trace::current()) t->add({"gather_rows", {x.value(), index}, y, {}});
    return record(y, {x}, [x = x.sink(), index](const Tensor& dy) {
        Tensor dx = Tensor::empty(x.shape(), dy.options());
        kernels(dx.device()).fill(context(dx.device()), dx, 0);
        kernels(dx.device()).scatter_add_rows(context(dx.device()), dy, index, dx);
        x.accumulate(dx);
    });
}

}  // namespace bf
