#pragma once
#include "bf/ops/shape.hpp"

namespace bf {

/// Every axis at once.
inline constexpr int all_axes = -1000;

/// "sum", "mean", ...
inline const char* name_of(Reduce op) {
#define BF_OP(name, Functor) #name,
    constexpr const char* names[] = {BF_REDUCE_OPS(BF_OP)};
#undef BF_OP
    return names[static_cast<std::size_t>(op)];
}

/// Reduction over one axis (negative counts from the end), or over all; the reduced axis disappears. Over all axes
/// the result is a scalar. A 4-d image in nhwc order is brought to N, C, H, W order for one axis.
inline Var reduce(Reduce op, const Var& input, int axis = all_axes) {
    const Var x = axis == all_axes ? input : to_format(input, Format::plain);
    const Shape& shape = x.shape();
    std::int64_t outer = 1, n = 1, inner = 1;
    Shape reduced;
    if (axis == all_axes) {
        n = shape.numel();
    } else {
        const int at = axis < 0 ? axis + shape.rank() : axis;
        BF_CHECK(at >= 0 && at < shape.rank(), "reduce", "axis out of range; got ", axis, " for ", x.value().str());
        for (int i = 0; i < shape.rank(); ++i) {
            (i < at ? outer : i == at ? n : inner) *= shape[i];
            if (i != at) reduced.push_back(shape[i]);
        }
    }
    const Device device = x.value().device();
    Tensor y = Tensor::empty(reduced, {x.value().dtype(), device});
    kernels(device).reduce(context(device), op, outer, n, inner, x.value(), y);
    if (Trace* t = Trace::current()) t->add({name_of(op), {x.value()}, y, {{"axis", axis}}});
    return record(y, {x}, [=, in = x.value(), sink = x.sink()](const Tensor& dy) {
        Tensor dx = empty_like(in);
        kernels(device).reduce_dx(context(device), op, outer, n, inner, in, y, dy, dx);
        sink.accumulate(dx);
    });
}

#define BF_OP(name, Functor) \
    inline Var name(const Var& x, int axis = all_axes) { return reduce(Reduce::name, x, axis); }
BF_REDUCE_OPS(BF_OP)
#undef BF_OP

}  // namespace bf
