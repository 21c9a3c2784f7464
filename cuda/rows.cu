#include "bf/math/index.hpp"
#include "bf/math/memory.hpp"
#include "bf/math/rows.hpp"
#include "fold.cuh"

namespace bf::cuda {
namespace {

template <class S, int V>
void copy_rows(Context& context, const Tensor& x, const std::int64_t* index, std::int64_t rows, std::int64_t cols,
               const Tensor& y) {
    const math::GatherRows<S, V> f{static_cast<const S*>(x.raw()), index, static_cast<S*>(y.raw()), cols};
    for_each(context, f.groups(rows), f);
}

/// y[i] = x[index[i]], bits as they are: 16 bytes at a time where rows allow it.
void copy_rows(Context& context, const Tensor& x, const std::int64_t* index, std::int64_t rows, std::int64_t cols,
               const Tensor& y) {
    if (rows == 0 || cols == 0) return;
    const auto size = static_cast<std::int64_t>(size_of(y.dtype()));
    if (cols * size % 16 == 0 && aligned(x.raw(), y.raw()))
        copy_rows<std::uint32_t, 4>(context, x, index, rows, cols * size / 4, y);
    else if (size == 8)
        copy_rows<std::uint64_t, 1>(context, x, index, rows, cols, y);
    else if (size == 4)
        copy_rows<std::uint32_t, 1>(context, x, index, rows, cols, y);
    else if (size == 2)
        copy_rows<std::uint16_t, 1>(context, x, index, rows, cols, y);
    else
        copy_rows<std::uint8_t, 1>(context, x, index, rows, cols, y);
}

}  // namespace

void broadcast_rows(Context& context, const Tensor& bias, const Tensor& y) {
    copy_rows(context, bias, nullptr, y.dim(0), y.dim(1), y);
}

void gather_rows(Context& context, const Tensor& x, const Tensor& index, const Tensor& y) {
    copy_rows(context, x, indices(index), index.numel(), x.dim(1), y);
}

void scatter_add_rows(Context& context, const Tensor& dy, const Tensor& index, const Tensor& dx) {
    const std::int64_t n = index.numel();
    if (n == 0) return;
    visit_storage(dx.dtype(), "gather_rows", [&]<class S>() {
        const Tensor links = scratch(context, {2, n}, DType::i64);
        std::int64_t *next = indices(links), *first = next + n;
        for_each(context, n, math::LinkRows{indices(index), next, first, n});
        for_each(context, n * dx.dim(1),
                 math::ScatterAddRows<S>{data<S>(dy), indices(index), next, first, data<S>(dx), dx.dim(1)});
    });
}

void normalize_rows(Context& context, const Tensor& x, const Tensor& y, const Tensor& inverse_norm) {
    visit_real(x.dtype(), "normalize_rows", [&]<class T>() {
        const std::int64_t rows = x.dim(0), cols = x.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::NormalizeRows<T>{columns, data<T>(x), data<T>(y), data<T>(inverse_norm), rows, cols});
    });
}

void normalize_rows_dx(Context& context, const Tensor& y, const Tensor& inverse_norm, const Tensor& dy,
                       const Tensor& dx) {
    visit_real(y.dtype(), "normalize_rows", [&]<class T>() {
        const std::int64_t rows = y.dim(0), cols = y.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::NormalizeRowsGradient<T>{columns, data<T>(y), data<T>(inverse_norm), data<T>(dy), data<T>(dx), rows,
                                            cols});
    });
}

void softmax_cross_entropy(Context& context, const Tensor& logits, const Tensor& labels, const Tensor& loss,
                           const Tensor& log_sum_exp) {
    visit_real(logits.dtype(), "softmax_cross_entropy", [&]<class T>() {
        const std::int64_t rows = logits.dim(0), cols = logits.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::SoftmaxCrossEntropy<T>{columns, data<T>(logits), indices(labels), data<T>(loss),
                                          data<T>(log_sum_exp), rows, cols});
    });
}

void softmax_cross_entropy_dx(Context& context, const Tensor& logits, const Tensor& labels, const Tensor& log_sum_exp,
                              const Tensor& dloss, const Tensor& dlogits) {
    visit_real(logits.dtype(), "softmax_cross_entropy", [&]<class T>() {
        for_each(context, logits.numel(),
                 math::SoftmaxCrossEntropyGradient<T>{data<T>(logits), indices(labels), data<T>(log_sum_exp),
                                                      data<T>(dloss), data<T>(dlogits), logits.dim(1)});
    });
}

void contrastive_rows(Context& context, double margin, std::int64_t self, const Tensor& labels,
                      const Tensor& memory_labels, const Tensor& cosines, const Tensor& loss) {
    visit_real(cosines.dtype(), "contrastive_pairs", [&]<class T>() {
        const std::int64_t rows = cosines.dim(0), cols = cosines.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::ContrastiveRows<T>{columns, static_cast<T>(margin), self, indices(labels), indices(memory_labels),
                                      data<T>(cosines), data<T>(loss), rows, cols});
    });
}

void newest_rows(Context& context, const Tensor& labels, std::int64_t first, const Tensor& newest) {
    for_each(context, labels.numel(), math::NewestRows{indices(labels), first, indices(newest), labels.numel()});
}

void mix_prototypes(Context& context, const math::PrototypeMix& rule, const Tensor& w, const Tensor& e,
                    const Tensor& newest, const Tensor& y) {
    visit_real(w.dtype(), "mix_prototypes", [&]<class T>() {
        const std::int64_t rows = w.dim(0), cols = w.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::MixPrototypes<T>{columns, rule, data<T>(w), data<T>(e), indices(newest), data<T>(y), rows, cols,
                                    e.dim(0)});
    });
}

void mix_prototypes_dw(Context& context, const math::PrototypeMix& rule, const Tensor& w, const Tensor& newest,
                       const Tensor& dy, const Tensor& dw) {
    visit_real(w.dtype(), "mix_prototypes", [&]<class T>() {
        const std::int64_t rows = w.dim(0), cols = w.dim(1);
        const int columns = math::fold_columns_for_rows(cols);
        fold(context, math::ceil_div(rows, columns),
             math::MixPrototypesGradient<T>{columns, rule, data<T>(w), indices(newest), data<T>(dy), data<T>(dw), rows,
                                            cols});
    });
}

}  // namespace bf::cuda
