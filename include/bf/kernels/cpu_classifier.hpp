#pragma once
#include <limits>

#include "bf/kernels/classifier.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/math/compensation.hpp"

// CPU: the margin softmax over many classes without its logits. Logits s cos = s (x . w) / (|x| |w|) are made a tile of
// rows x classes at a time, used, and forgotten; the backward passes make them again. Tiles depend on the shape alone.

namespace bf::cpu {

inline constexpr std::int64_t class_tile = 512, row_tile = 256;

template <class T>
using Row = Eigen::Array<T, 1, Eigen::Dynamic>;

/// 1 / max(|row|, 1e-12) of each row of x [M, D].
inline void inverse_norms(Context&, const Tensor& x, const Tensor& y) {
    visit_real(x.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t cols = x.dim(1);
        const T* in = x.data<T>();
        T* out = y.data<T>();
        parallel_for(x.dim(0), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Eigen::Map<const Row<T>> row(in + r * cols, cols);
                out[r] = T(1) / std::max(static_cast<T>(1e-12), std::sqrt(row.square().sum()));
            }
        });
    });
}

/// cos of each row with the W row of its label; 0 for labels outside the class range.
inline void target_cosine(Context&, const ClassifierRows& rows, const ClassifierWeights& weights,
                          const Tensor& cosine) {
    visit_real(cosine.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t dim = rows.x.dim(1), classes = weights.w.dim(0);
        const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>(), *w = weights.w.data<T>(),
                *iw = weights.inverse_norm.data<T>();
        const std::int64_t* labels = rows.labels.data<std::int64_t>();
        T* out = cosine.data<T>();
        parallel_for(rows.count(), row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const std::int64_t k = labels[r] - weights.class_begin;
                if (k < 0 || k >= classes) {
                    out[r] = 0;
                    continue;
                }
                const Eigen::Map<const Row<T>> a(x + r * dim, dim), b(w + k * dim, dim);
                out[r] = (a * b).sum() * ix[r] * iw[k];
            }
        });
    });
}

/// s cos of rows [r0, r1) with classes [k0, k1) into tile [rows, class_tile], cosines limited to [-1, 1].
template <class T>
void logit_tile(const ClassifierRows& rows, const ClassifierWeights& weights, std::int64_t r0, std::int64_t r1,
                std::int64_t k0, std::int64_t k1, T* tile) {
    const std::int64_t dim = rows.x.dim(1), height = r1 - r0, width = k1 - k0;
    MatrixView<T> z(tile, height, width, Eigen::OuterStride<>(class_tile));
    z.noalias() = ConstMatrixView<T>(rows.x.data<T>() + r0 * dim, height, dim, Eigen::OuterStride<>(dim)) *
                  ConstMatrixView<T>(weights.w.data<T>() + k0 * dim, width, dim, Eigen::OuterStride<>(dim)).transpose();
    const Eigen::Map<const Row<T>> iw(weights.inverse_norm.data<T>() + k0, width);
    const T* ix = rows.inverse_norm.data<T>() + r0;
    const T scale = static_cast<T>(weights.scale);
    for (std::int64_t r = 0; r < height; ++r) {
        Eigen::Map<Row<T>> line(tile + r * class_tile, width);
        line = (line * (iw * ix[r])).max(T(-1)).min(T(1)) * scale;
    }
}

/// Largest logit and sum of exp(logit - largest) of each row over the range's classes without the row's own label.
/// Shards of classes join by maximum and rescaled sum. A row with no other class gets (-inf, 0).
inline void classifier_statistics(Context&, const ClassifierRows& rows, const ClassifierWeights& weights,
                                  const Tensor& largest, const Tensor& sum) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t classes = weights.w.dim(0);
        const std::int64_t* labels = rows.labels.data<std::int64_t>();
        T *top = largest.data<T>(), *total = sum.data<T>();
        const T none = -std::numeric_limits<T>::infinity();
        // Few rows are cut finer, so that every core has work.
        const std::int64_t grain = std::clamp<std::int64_t>((rows.count() + 7) / 8, 16, row_tile);
        parallel_for(rows.count(), grain, [&](std::int64_t r0, std::int64_t r1) {
            const Tensor scratch = Tensor::empty({r1 - r0, class_tile}, {.dtype = dtype_of<T>});
            T* tile = scratch.data<T>();
            std::fill(top + r0, top + r1, none);
            std::fill(total + r0, total + r1, T(0));
            for (std::int64_t k0 = 0; k0 < classes; k0 += class_tile) {
                const std::int64_t k1 = std::min(classes, k0 + class_tile);
                logit_tile(rows, weights, r0, r1, k0, k1, tile);
                for (std::int64_t r = r0; r < r1; ++r) {
                    Eigen::Map<Row<T>> line(tile + (r - r0) * class_tile, k1 - k0);
                    const std::int64_t own = labels[r] - weights.class_begin - k0;
                    if (own >= 0 && own < k1 - k0) line[own] = none;
                    const T here = line.maxCoeff();
                    if (here == none) continue;
                    if (here > top[r]) {
                        total[r] *= std::exp(top[r] - here);
                        top[r] = here;
                    }
                    total[r] += (line - top[r]).exp().sum();
                }
            }
        });
    });
}

inline void margin_rows(Context&, const Margin& margin, double scale, const ClassifierRows& rows,
                        const ClassifierStatistics& statistics, const Tensor& loss, const Tensor& correct) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const auto sums = bf::margin_rows<T>(margin, scale, rows, statistics);
        *loss.data<T>() = static_cast<T>(sums.first);
        *correct.data<T>() = static_cast<T>(sums.second);
    });
}

/// Turns a tile of logits into d loss / d cos of each entry, times the row's weight and s.
template <class T>
void gradient_tile(const ClassifierRows& rows, const ClassifierWeights& weights, std::int64_t r0, std::int64_t r1,
                   std::int64_t k0, std::int64_t k1, T row_weight, T* tile) {
    const std::int64_t* labels = rows.labels.data<std::int64_t>();
    const T *lse = rows.log_sum_exp.data<T>(), *target = rows.target_logit.data<T>(), *slope = rows.slope.data<T>();
    const T factor = row_weight * static_cast<T>(weights.scale);
    for (std::int64_t r = r0; r < r1; ++r) {
        Eigen::Map<Row<T>> line(tile + (r - r0) * class_tile, k1 - k0);
        line = (line - lse[r]).exp() * factor;
        const std::int64_t own = labels[r] - weights.class_begin - k0;
        if (own >= 0 && own < k1 - k0) line[own] = (std::exp(target[r] - lse[r]) - T(1)) * slope[r] * factor;
    }
}

/// dW += gradient of sum over all row sets of row_weight (log_sum_exp - target_logit); each task owns a tile of
/// classes.
inline void classifier_dw(Context&, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
                          const ClassifierWeights& weights, const Tensor& dw) {
    visit_real(dw.dtype(), "margin_softmax", [&]<class T>() {
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1);
        T* out = dw.data<T>();
        parallel_for(classes, class_tile, [&](std::int64_t k0, std::int64_t k1) {
            const Tensor scratch = Tensor::empty({row_tile, class_tile + dim}, {.dtype = dtype_of<T>}),
                         sums = Tensor::empty({k1 - k0, dim}, {.dtype = dtype_of<T>});
            T *tile = scratch.data<T>(), *unit = tile + row_tile * class_tile;
            MatrixView<T> sum(sums.data<T>(), k1 - k0, dim, Eigen::OuterStride<>(dim));
            sum.setZero();
            for (int s = 0; s < set_count; ++s) {
                const ClassifierRows& rows = sets[s];
                const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>();
                for (std::int64_t r0 = 0; r0 < rows.count(); r0 += row_tile) {
                    const std::int64_t r1 = std::min(rows.count(), r0 + row_tile);
                    logit_tile(rows, weights, r0, r1, k0, k1, tile);
                    gradient_tile(rows, weights, r0, r1, k0, k1, factor, tile);
                    for (std::int64_t r = r0; r < r1; ++r)
                        Eigen::Map<Row<T>>(unit + (r - r0) * dim, dim) =
                            Eigen::Map<const Row<T>>(x + r * dim, dim) * ix[r];
                    sum.noalias() +=
                        ConstMatrixView<T>(tile, r1 - r0, k1 - k0, Eigen::OuterStride<>(class_tile)).transpose() *
                        ConstMatrixView<T>(unit, r1 - r0, dim, Eigen::OuterStride<>(dim));
                }
            }
            // through the normalisation of W: dw = (g - u (u . g)) / |w|
            const T *w = weights.w.data<T>(), *iw = weights.inverse_norm.data<T>();
            for (std::int64_t k = k0; k < k1; ++k) {
                const Eigen::Map<const Row<T>> g(sums.data<T>() + (k - k0) * dim, dim), row(w + k * dim, dim);
                const T along = (g * row).sum() * iw[k] * iw[k];
                Eigen::Map<Row<T>>(out + k * dim, dim) += (g - row * along) * iw[k];
            }
        });
    });
}

/// dx = gradient of sum over the rows of row_weight (log_sum_exp - target_logit). Classes are summed in eight fixed
/// ranges, joined in order.
inline void classifier_dx(Context&, const ClassifierRows& rows, double row_weight, const Tensor& seed,
                          const ClassifierWeights& weights, const Tensor& dx) {
    visit_real(dx.dtype(), "margin_softmax", [&]<class T>() {
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1), n = rows.count();
        const std::int64_t tiles = (classes + class_tile - 1) / class_tile, parts = std::min<std::int64_t>(8, tiles);
        const Tensor partial = Tensor::empty({parts, n, dim}, {.dtype = dtype_of<T>});
        T* sums = partial.data<T>();
        std::memset(partial.raw(), 0, partial.bytes());
        parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
            const Tensor scratch = Tensor::empty({row_tile, class_tile}, {.dtype = dtype_of<T>});
            T* tile = scratch.data<T>();
            const Eigen::Map<const Row<T>> iw(weights.inverse_norm.data<T>(), classes);
            for (std::int64_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
                const std::int64_t k0 = t * class_tile, k1 = std::min(classes, k0 + class_tile);
                for (std::int64_t r0 = 0; r0 < n; r0 += row_tile) {
                    const std::int64_t r1 = std::min(n, r0 + row_tile);
                    logit_tile(rows, weights, r0, r1, k0, k1, tile);
                    gradient_tile(rows, weights, r0, r1, k0, k1, factor, tile);
                    for (std::int64_t r = 0; r < r1 - r0; ++r)
                        Eigen::Map<Row<T>>(tile + r * class_tile, k1 - k0) *= iw.segment(k0, k1 - k0);
                    MatrixView<T>(sums + (part * n + r0) * dim, r1 - r0, dim, Eigen::OuterStride<>(dim)).noalias() +=
                        ConstMatrixView<T>(tile, r1 - r0, k1 - k0, Eigen::OuterStride<>(class_tile)) *
                        ConstMatrixView<T>(weights.w.data<T>() + k0 * dim, k1 - k0, dim, Eigen::OuterStride<>(dim));
                }
            }
        });
        const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>();
        T* out = dx.data<T>();
        parallel_for(n, row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                Eigen::Map<Row<T>> g(sums + r * dim, dim);
                for (std::int64_t part = 1; part < parts; ++part)
                    g += Eigen::Map<const Row<T>>(sums + (part * n + r) * dim, dim);
                const Eigen::Map<const Row<T>> row(x + r * dim, dim);
                const T along = (g * row).sum() * ix[r] * ix[r];
                Eigen::Map<Row<T>>(out + r * dim, dim) = (g - row * along) * ix[r];
            }
        });
    });
}

/// out[i] = compensation of e[i] from then[i] to w[labels[i]]: e, then, out [n, D]; out may be e.
inline void compensate(Context&, const math::Compensation& rule, const Tensor& e, const Tensor& then,
                       const Tensor& labels, const Tensor& w, const Tensor& out) {
    visit_real(w.dtype(), "compensate", [&]<class T>() {
        const std::int64_t dim = w.dim(1);
        const T *from = e.data<T>(), *old = then.data<T>(), *now = w.data<T>();
        const std::int64_t* label = labels.data<std::int64_t>();
        T* to = out.data<T>();
        const math::Compensation f = rule;
        parallel_for(labels.numel(), row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i)
                f(from + i * dim, old + i * dim, now + label[i] * dim, to + i * dim, dim);
        });
    });
}

}  // namespace bf::cpu
