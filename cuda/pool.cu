#include "bf/math/pool.hpp"
#include "elements.cuh"

namespace bf::cuda {
namespace {

math::PoolWindow window(const PoolGeometry& g) {
    return {g.n, g.c, g.h, g.w, g.kernel_h, g.kernel_w, g.stride, g.pad, g.h_out(), g.w_out()};
}

/// Calls f with the storage type and the channels a thread; a and b are the image tensors of the pass.
template <class F>
void visit_pool(const char* op, const PoolGeometry& g, const Tensor& a, const Tensor& b, F&& f) {
    if (g.n == 0 || g.c == 0) return;
    visit_storage(a.dtype(), op, [&]<class S>() {
        visit_lanes<S>(g.c % math::pack_size<S> == 0 && aligned(data<S>(a), data<S>(b)),
                       [&]<int V>() { f.template operator()<S, V>(); });
    });
}

}  // namespace

void max_pool(Context& context, const PoolGeometry& g, const Tensor& x, const Tensor& y, const Tensor& index) {
    visit_pool("max_pool", g, x, y, [&]<class S, int V>() {
        const math::MaxPool<S, V> f{window(g), data<S>(x), data<S>(y), indices(index)};
        for_each(context, f.indices(), f);
    });
}

void max_pool_dx(Context& context, const PoolGeometry& g, const Tensor& dy, const Tensor& index, const Tensor& dx) {
    visit_pool("max_pool", g, dy, dx, [&]<class S, int V>() {
        const math::MaxPoolGradient<S, V> f{window(g), data<S>(dy), indices(index), data<S>(dx)};
        for_each(context, f.indices(), f);
    });
}

void avg_pool(Context& context, const PoolGeometry& g, const Tensor& x, const Tensor& y) {
    visit_pool("avg_pool", g, x, y, [&]<class S, int V>() {
        const math::AveragePool<S, V> f{window(g), data<S>(x), data<S>(y)};
        for_each(context, f.indices(), f);
    });
}

void avg_pool_dx(Context& context, const PoolGeometry& g, const Tensor& dy, const Tensor& dx) {
    visit_pool("avg_pool", g, dy, dx, [&]<class S, int V>() {
        const math::AveragePoolGradient<S, V> f{window(g), data<S>(dy), data<S>(dx)};
        for_each(context, f.indices(), f);
    });
}

}  // namespace bf::cuda
