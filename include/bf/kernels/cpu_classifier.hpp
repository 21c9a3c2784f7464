#pragma once
#include <limits>
#include <vector>

#include "bf/kernels/classifier.hpp"
#include "bf/kernels/cpu_exp.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/math/compensation.hpp"

// CPU: the margin softmax over many classes without its logits. Logits s cos = s (x . w) / (|x| |w|) are made a tile of
// classes by a panel of rows at a time, with rows across vector lanes; they are used and forgotten, and the backward
// passes make them again, except those of the first tiles that ClassifierRows::kept has room for. Panels, tiles, tasks
// and the order of sums depend on the shape alone.

namespace bf::cpu {

/// Classes a tile: few enough that eight tasks share them, and whole groups of rows of multiply_block() on any target.
inline std::int64_t class_tile(std::int64_t classes) {
    return std::clamp<std::int64_t>((classes + 335) / 336, 1, 3) * 42;
}
/// Rows that are packed at once, and those whose gradients a tile of classes holds at once.
inline constexpr std::int64_t row_group = 2048, row_tile = 256;

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

/// Up to block_cols<T> rows of a set: those that share vectors.
struct RowPanel {
    const ClassifierRows* rows;
    std::int64_t first, count;
};

/// All rows of the sets, in order; a panel holds rows of one set.
template <class T>
std::vector<RowPanel> row_panels(const ClassifierRows* sets, int set_count) {
    std::vector<RowPanel> panels;
    for (int s = 0; s < set_count; ++s)
        for (std::int64_t r = 0; r < sets[s].count(); r += block_cols<T>)
            panels.push_back({&sets[s], r, std::min(block_cols<T>, sets[s].count() - r)});
    return panels;
}

/// body(first panel, panels) for groups of about row_group rows, one after the other.
template <class T, class F>
void for_row_groups(const std::vector<RowPanel>& panels, F&& body) {
    const auto all = static_cast<std::int64_t>(panels.size());
    for (std::int64_t p = 0; p < all; p += row_group / block_cols<T>)
        body(panels.data() + p, std::min(row_group / block_cols<T>, all - p));
}

/// body(panel) for panels of rows of `dim` values; few of them are not worth a second thread.
template <class T, class F>
void for_panels(std::int64_t count, std::int64_t dim, F&& body) {
    parallel_for(count, row_grain(dim) / block_cols<T>, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) body(p);
    });
}

/// x / |x| of the panel's rows as [D, block_cols], a row a column; missing rows are 0.
template <class T>
void pack_across(const RowPanel& panel, T* out) {
    const std::int64_t dim = panel.rows->x.dim(1);
    const T *x = panel.rows->x.data<T>() + panel.first * dim, *ix = panel.rows->inverse_norm.data<T>() + panel.first;
    for (std::int64_t d = 0; d < dim; ++d, out += block_cols<T>) {
        for (std::int64_t r = 0; r < panel.count; ++r) out[r] = x[r * dim + d] * ix[r];
        std::fill(out + panel.count, out + block_cols<T>, T(0));
    }
}

/// Scaled rows of x [rows, D] as columns [D / block_cols, height, block_cols]: row r lies in the place at + r of each
/// block, and missing columns are 0.
template <class T>
void pack_along(const T* x, const T* factor, std::int64_t rows, std::int64_t dim, std::int64_t height, std::int64_t at,
                T* out) {
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t d = 0; d < dim; d += block_cols<T>) {
            T* to = out + d * height + (at + r) * block_cols<T>;
            const T* from = x + r * dim + d;
            const std::int64_t count = std::min(block_cols<T>, dim - d);
            for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] * factor[r];
            std::fill(to + count, to + block_cols<T>, T(0));
        }
}

/// c[rows, block_cols] (+)= sum over terms of a_t b_t: multiply_block() of terms that lie a_term and b_term apart. A
/// function of its own, in which the compiler keeps all sums in registers.
template <bool add, class T>
[[gnu::noinline]] void multiply_terms(std::int64_t rows, std::int64_t terms, const T* a, std::int64_t a_term,
                                      const T* b, std::int64_t b_term, std::int64_t depth, const BlockStrides& s, T* c,
                                      std::int64_t c_row) {
    multiply_block<add, T>(
        rows, terms, [&](std::int64_t t) { return std::pair<const T*, const T*>(a + t * a_term, b + t * b_term); },
        depth, s, c, c_row);
}

/// Where the tile of classes [k0, k1) and a panel lies in the rows' kept logits; null if there is no room for it.
template <class T>
T* kept_logits(const RowPanel& panel, std::int64_t k0, std::int64_t k1) {
    const Tensor& kept = panel.rows->kept;
    const std::int64_t width = padded_cols<T>(panel.rows->count());
    return kept.defined() && k1 * width <= kept.numel() ? kept.data<T>() + k0 * width + panel.first * (k1 - k0)
                                                        : nullptr;
}

/// z[k - k0, i] = s cos of class k and row i of the panel, cosines limited to [-1, 1], for classes [k0, k1); -inf for a
/// row's own class.
template <class T>
void logit_tile(const RowPanel& panel, const ClassifierWeights& weights, std::int64_t k0, std::int64_t k1,
                const T* across, T* z) {
    const std::int64_t dim = weights.w.dim(1);
    const T *w = weights.w.data<T>() + k0 * dim, *iw = weights.inverse_norm.data<T>();
    multiply_terms<false, T>(k1 - k0, 1, w, 0, across, 0, dim, {dim, 1, block_cols<T>}, z, block_cols<T>);
    const T scale = static_cast<T>(weights.scale);
    const Vector<T> high = broadcast(scale), low = -high;
    T* line = z;
    for (std::int64_t k = k0; k < k1; ++k, line += block_cols<T>) {
        const Vector<T> factor = broadcast(iw[k] * scale);
        repeated<2>([&](auto half) {
            T* at = line + static_cast<std::int64_t>(half) * lanes<T>;
            Vector<T> v = load(at) * factor;
            v = v > high ? high : v;
            store(at, v < low ? low : v);
        });
    }
    const std::int64_t* labels = panel.rows->labels.data<std::int64_t>() + panel.first;
    for (std::int64_t i = 0; i < panel.count; ++i) {
        const std::int64_t own = labels[i] - weights.class_begin;
        if (own >= k0 && own < k1) z[(own - k0) * block_cols<T> + i] = -std::numeric_limits<T>::infinity();
    }
}

/// Takes a tile [classes, block_cols] into the largest logit of each row and the sum of exp(logit - largest).
template <class T>
void add_statistics(const T* z, std::int64_t classes, T* largest, T* sum) {
    const Vector<T> none = broadcast(-std::numeric_limits<T>::infinity());
    Vector<T> top[2], base[2], total[2] = {};
    repeated<2>([&](auto h) { top[h] = load(largest + static_cast<std::int64_t>(h) * lanes<T>); });
    for (std::int64_t k = 0; k < classes; ++k)
        repeated<2>([&](auto h) {
            top[h] = larger<T>(top[h], load(z + k * block_cols<T> + static_cast<std::int64_t>(h) * lanes<T>));
        });
    repeated<2>([&](auto h) { base[h] = top[h] == none ? Vector<T>{} : top[h]; });
    for (std::int64_t k = 0; k < classes; ++k)
        repeated<2>([&](auto h) {
            total[h] += exponential<T>(load(z + k * block_cols<T> + static_cast<std::int64_t>(h) * lanes<T>) - base[h]);
        });
    repeated<2>([&](auto h) {
        T *m = largest + static_cast<std::int64_t>(h) * lanes<T>, *s = sum + static_cast<std::int64_t>(h) * lanes<T>;
        store(s, load(s) * exponential<T>(load(m) - base[h]) + total[h]);
        store(m, top[h]);
    });
}

/// Largest logit and sum of exp(logit - largest) of each row over the range's classes without the row's own label.
/// Shards of classes join by maximum and rescaled sum. A row with no other class gets (-inf, 0). Classes are taken in
/// up to 32 fixed ranges, joined in order.
inline void classifier_statistics(Context&, const ClassifierRows& rows, const ClassifierWeights& weights,
                                  const Tensor& largest, const Tensor& sum) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1);
        const std::int64_t tile = class_tile(classes), tiles = (classes + tile - 1) / tile,
                           parts = std::min<std::int64_t>(32, tiles);
        const T none = -std::numeric_limits<T>::infinity();
        const TensorOptions made{.dtype = dtype_of<T>};
        for_row_groups<T>(row_panels<T>(&rows, 1), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>;
            const Tensor packed = Tensor::empty({width, dim}, made), partial = Tensor::empty({2, parts, width}, made);
            T *across = packed.data<T>(), *tops = partial.data<T>(), *totals = tops + parts * width;
            for_panels<T>(count, dim,
                          [&](std::int64_t p) { pack_across(panels[p], across + p * block_cols<T> * dim); });
            std::fill_n(tops, parts * width, none);
            std::fill_n(totals, parts * width, T(0));
            parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
                const Tensor scratch = Tensor::empty({tile, block_cols<T>}, made);
                for (std::int64_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
                    const std::int64_t k0 = t * tile, k1 = std::min(classes, k0 + tile);
                    for (std::int64_t p = 0; p < count; ++p) {
                        T* z = kept_logits<T>(panels[p], k0, k1);
                        if (!z) z = scratch.data<T>();
                        logit_tile(panels[p], weights, k0, k1, across + p * block_cols<T> * dim, z);
                        const std::int64_t at = part * width + p * block_cols<T>;
                        add_statistics(z, k1 - k0, tops + at, totals + at);
                    }
                }
            });
            for (std::int64_t p = 0; p < count; ++p)
                for (std::int64_t i = 0; i < panels[p].count; ++i) {
                    const std::int64_t at = p * block_cols<T> + i;
                    T top = none, total = 0;
                    for (std::int64_t part = 0; part < parts; ++part) top = std::max(top, tops[part * width + at]);
                    for (std::int64_t part = 0; part < parts; ++part) {
                        const T here = tops[part * width + at];
                        total += totals[part * width + at] * (here == top ? T(1) : std::exp(here - top));
                    }
                    largest.data<T>()[panels[p].first + i] = top;
                    sum.data<T>()[panels[p].first + i] = total;
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

/// d loss / d cos of a panel's entries, times the row's weight and s, from its logits z [classes, block_cols], to
/// g [classes, block_cols].
template <class T>
void gradient_tile(const RowPanel& panel, const ClassifierWeights& weights, std::int64_t k0, std::int64_t k1,
                   T row_weight, const T* z, T* g) {
    const std::int64_t* labels = panel.rows->labels.data<std::int64_t>() + panel.first;
    const T *lse = panel.rows->log_sum_exp.data<T>() + panel.first,
            *target = panel.rows->target_logit.data<T>() + panel.first,
            *slope = panel.rows->slope.data<T>() + panel.first;
    const T scaled = row_weight * static_cast<T>(weights.scale);
    const Vector<T> factor = broadcast(scaled);
    Vector<T> base[2];
    T ends[block_cols<T>];
    std::fill(std::copy_n(lse, panel.count, ends), ends + block_cols<T>, std::numeric_limits<T>::infinity());
    repeated<2>([&](auto h) { base[h] = load(ends + static_cast<std::int64_t>(h) * lanes<T>); });
    for (std::int64_t k = 0; k < (k1 - k0) * block_cols<T>; k += block_cols<T>)
        repeated<2>([&](auto h) {
            const std::int64_t at = k + static_cast<std::int64_t>(h) * lanes<T>;
            store(g + at, exponential<T>(load(z + at) - base[h]) * factor);
        });
    for (std::int64_t i = 0; i < panel.count; ++i) {
        const std::int64_t own = labels[i] - weights.class_begin;
        if (own >= k0 && own < k1)
            g[(own - k0) * block_cols<T> + i] = (std::exp(target[i] - lse[i]) - T(1)) * slope[i] * scaled;
    }
}

/// The same, from kept logits or else from logits made here.
template <class T>
void make_gradients(const RowPanel& panel, const ClassifierWeights& weights, std::int64_t k0, std::int64_t k1,
                    T row_weight, const T* across, T* g) {
    const T* z = kept_logits<T>(panel, k0, k1);
    if (!z) logit_tile(panel, weights, k0, k1, across, g);
    gradient_tile(panel, weights, k0, k1, row_weight, z ? z : g, g);
}

/// dW = gradient of sum over all row sets of row_weight (log_sum_exp - target_logit); each task owns a tile of
/// classes.
inline void classifier_dw(Context&, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
                          const ClassifierWeights& weights, const Tensor& dw) {
    visit_real(dw.dtype(), "margin_softmax", [&]<class T>() {
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1), cols = padded_cols<T>(dim);
        const TensorOptions made{.dtype = dtype_of<T>};
        const T *w = weights.w.data<T>(), *iw = weights.inverse_norm.data<T>();
        T* out = dw.data<T>();
        bool begin = true;
        for_row_groups<T>(row_panels<T>(sets, set_count), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>;
            const Tensor packed = Tensor::empty({width, dim + cols}, made);
            T *across = packed.data<T>(), *along = across + width * dim;
            for_panels<T>(count, dim, [&](std::int64_t p) {
                const RowPanel& panel = panels[p];
                pack_across(panel, across + p * block_cols<T> * dim);
                pack_along(panel.rows->x.data<T>() + panel.first * dim,
                           panel.rows->inverse_norm.data<T>() + panel.first, panel.count, dim, width, p * block_cols<T>,
                           along);
            });
            parallel_for(classes, class_tile(classes), [&](std::int64_t k0, std::int64_t k1) {
                const std::int64_t height = k1 - k0;
                const Tensor scratch = Tensor::empty({height, row_tile + cols}, made);
                T *tile = scratch.data<T>(), *sums = tile + height * row_tile;
                for (std::int64_t first = 0; first < count; first += row_tile / block_cols<T>) {
                    const std::int64_t here = std::min(row_tile / block_cols<T>, count - first);
                    for (std::int64_t p = 0; p < here; ++p)
                        make_gradients(panels[first + p], weights, k0, k1, factor,
                                       across + (first + p) * block_cols<T> * dim, tile + p * height * block_cols<T>);
                    // panels of as many rows are the terms of one product
                    for (std::int64_t p = 0, q; p < here; p = q) {
                        for (q = p + 1; q < here && panels[first + q].count == panels[first + p].count;) ++q;
                        const T *a = tile + p * height * block_cols<T>,
                                *b = along + (first + p) * block_cols<T> * block_cols<T>;
                        const auto multiply = first + p ? &multiply_terms<true, T> : &multiply_terms<false, T>;
                        for (std::int64_t d = 0; d < cols; d += block_cols<T>)
                            multiply(height, q - p, a, height * block_cols<T>, b + d * width,
                                     block_cols<T> * block_cols<T>, panels[first + p].count,
                                     {block_cols<T>, 1, block_cols<T>}, sums + d, cols);
                    }
                }
                // through the normalisation of W: dw = (g - u (u . g)) / |w|
                for (std::int64_t k = k0; k < k1; ++k) {
                    const Eigen::Map<const Row<T>> g(sums + (k - k0) * cols, dim), row(w + k * dim, dim);
                    const T onto = (g * row).sum() * iw[k] * iw[k];
                    Eigen::Map<Row<T>> to(out + k * dim, dim);
                    if (begin)
                        to = (g - row * onto) * iw[k];
                    else
                        to += (g - row * onto) * iw[k];
                }
            });
            begin = false;
        });
        if (begin) std::fill_n(out, classes * dim, T(0));
    });
}

/// dx = gradient of sum over the rows of row_weight (log_sum_exp - target_logit). Classes are summed in fixed ranges,
/// up to 32 and more than eight only where rows are few, joined in order.
inline void classifier_dx(Context&, const ClassifierRows& rows, double row_weight, const Tensor& seed,
                          const ClassifierWeights& weights, const Tensor& dx) {
    visit_real(dx.dtype(), "margin_softmax", [&]<class T>() {
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1), cols = padded_cols<T>(dim);
        const std::int64_t tile = class_tile(classes), tiles = (classes + tile - 1) / tile;
        const TensorOptions made{.dtype = dtype_of<T>};
        const T *w = weights.w.data<T>(), *iw = weights.inverse_norm.data<T>();
        const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>();
        T* out = dx.data<T>();
        for_row_groups<T>(row_panels<T>(&rows, 1), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>,
                               parts = std::min(tiles, std::clamp<std::int64_t>(8192 / width, 8, 32));
            const Tensor packed = Tensor::empty({width, dim}, made),
                         partial = Tensor::empty({parts, width, cols}, made);
            T *across = packed.data<T>(), *sums = partial.data<T>();
            for_panels<T>(count, dim,
                          [&](std::int64_t p) { pack_across(panels[p], across + p * block_cols<T> * dim); });
            parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
                const Tensor scratch = Tensor::empty({tile, block_cols<T> + cols}, made);
                T *g = scratch.data<T>(), *unit = g + tile * block_cols<T>, *sum = sums + part * width * cols;
                std::fill_n(sum, width * cols, T(0));
                for (std::int64_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
                    const std::int64_t k0 = t * tile, k1 = std::min(classes, k0 + tile), height = k1 - k0;
                    pack_along(w + k0 * dim, iw + k0, height, dim, height, 0, unit);
                    for (std::int64_t p = 0; p < count; ++p) {
                        make_gradients(panels[p], weights, k0, k1, factor, across + p * block_cols<T> * dim, g);
                        for (std::int64_t d = 0; d < cols; d += block_cols<T>)
                            multiply_terms<true, T>(panels[p].count, 1, g, 0, unit + d * height, 0, height,
                                                    {1, block_cols<T>, block_cols<T>},
                                                    sum + p * block_cols<T> * cols + d, cols);
                    }
                }
            });
            for_panels<T>(count, dim, [&](std::int64_t p) {
                for (std::int64_t i = 0; i < panels[p].count; ++i) {
                    const std::int64_t r = panels[p].first + i;
                    Row<T> g = Row<T>::Zero(dim);
                    for (std::int64_t part = 0; part < parts; ++part)
                        g += Eigen::Map<const Row<T>>(sums + (part * width + p * block_cols<T> + i) * cols, dim);
                    const Eigen::Map<const Row<T>> row(x + r * dim, dim);
                    const T along = (g * row).sum() * ix[r] * ix[r];
                    Eigen::Map<Row<T>>(out + r * dim, dim) = (g - row * along) * ix[r];
                }
            });
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
