#include "bf/kernels/visit.hpp"
#include "bf/math/map.hpp"
#include "fold.cuh"

namespace bf::cuda {

void reduce(Context& context, Reduce op, std::int64_t outer, std::int64_t n, std::int64_t inner, const Tensor& x,
            const Tensor& y) {
    visit_real(x.dtype(), "reduce", [&]<class T>() {
        const T* in = data<T>(x);
        T* out = data<T>(y);
        visit_reduce(op, [&]<class R>() {
            if (inner == 1 && outer == 1) {
                const std::int64_t blocks = math::FoldAll<R, T>::blocks_for(n);
                const Tensor partial = scratch(context, {blocks}, DType::f64);
                fold(context, blocks, math::FoldAll<R, T>{in, data<double>(partial), n, blocks, aligned(in)});
                fold(context, 1, math::FoldPartials<R, T>{data<double>(partial), blocks, n, out});
            } else if (inner == 1) {
                const int columns = math::fold_columns_for_rows(n);
                fold(context, math::ceil_div(outer, columns), math::FoldRows<R, T>{columns, in, out, outer, n});
            } else {
                const math::FoldColumns<R, T> f{math::power_of_two(inner, 32), in, out, n, inner};
                fold(context, f.blocks(outer), f);
            }
        });
    });
}

void reduce_dx(Context& context, Reduce op, std::int64_t outer, std::int64_t n, std::int64_t inner, const Tensor& x,
               const Tensor& y, const Tensor& dy, const Tensor& dx) {
    visit_real(x.dtype(), "reduce", [&]<class T>() {
        visit_reduce(op, [&]<class R>() {
            for_each(context, outer * n * inner,
                     math::ReduceGradient<R, T>{n, inner, data<T>(x), data<T>(y), data<T>(dy), data<T>(dx)});
        });
    });
}

}  // namespace bf::cuda
