#pragma once
#include "bf/kernels/cpu_pointwise.hpp"

// CPU: update rules over all parameters in one parallel pass, and the norms that clip them.

namespace bf::cpu {

inline void sum_squares(Context& ctx, const std::vector<Tensor>& x, const Tensor& out) {
    double total = 0;
    for (const Tensor& t : x) {
        const Tensor sum = Tensor::empty({}, {.dtype = t.dtype()});
        reduce(ctx, Reduce::sum_squares, 1, t.numel(), 1, t, sum);
        total += sum.item();
    }
    *out.data<double>() = total;
}

inline void clip_factors(Context&, const ClipLimits& limits, const Tensor& squares, const Tensor& factors,
                         const Tensor& norm) {
    const std::span<double> group = squares.span<double>();
    double total = 0;
    for (const double s : group) total += s;
    total = std::sqrt(total);
    *norm.data<double>() = total;
    for (std::size_t i = 0; i < group.size(); ++i)
        factors.data<double>()[i] = math::clip_factor(total, limits.global, std::sqrt(group[i]), limits.group[i]);
}

template <class Rule>
void update(const Rule& rule, const std::vector<UpdateItem>& items, const Tensor& factors) {
    // pieces of all parameters in one list, so that small ones share the threads with large ones
    struct Piece {
        const UpdateItem* item;
        std::int64_t begin, end;
    };
    std::vector<Piece> pieces;
    for (const UpdateItem& item : items) {
        if (std::isnan(factors.data<double>()[item.group])) continue;
        for (std::int64_t begin = 0; begin < item.w.numel(); begin += pointwise_grain)
            pieces.push_back({&item, begin, std::min(item.w.numel(), begin + pointwise_grain)});
    }
    cpu_pool().run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t p) {
        const auto [item, begin, end] = pieces[static_cast<std::size_t>(p)];
        visit_real(item->w.dtype(), "optimizer", [&, item = item, begin = begin, end = end]<class T>() {
            Rule scaled = rule;
            scaled.lr *= item->lr_scale;
            const T factor = static_cast<T>(factors.data<double>()[item->group]);
            const T decay = static_cast<T>(item->weight_decay);
            const T* g = item->g.template data<T>();
            T *w = item->w.template data<T>(), *first = item->first.template data<T>();
            T* second = item->second.defined() ? item->second.template data<T>() : first;
            for (std::int64_t i = begin; i < end; ++i) scaled(g[i], factor, decay, w[i], first[i], second[i]);
        });
    });
}
inline void sgd(Context&, const math::SgdUpdate& rule, const std::vector<UpdateItem>& items, const Tensor& factors) {
    update(rule, items, factors);
}
inline void adamw(Context&, const math::AdamWUpdate& rule, const std::vector<UpdateItem>& items,
                  const Tensor& factors) {
    update(rule, items, factors);
}

}  // namespace bf::cpu
