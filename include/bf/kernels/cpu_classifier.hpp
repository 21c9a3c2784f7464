#pragma once
#include <limits>
#include <vector>

#include "bf/kernels/cpu_classifier_heads.hpp"
#include "bf/kernels/cpu_margin_head.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/math/compensation.hpp"
#include "bf/math/hard_classes.hpp"

// CPU: the margin softmax over many classes without its logits. Logits s cos = s (x . w) / (|x| |w|) are made a tile of
// classes by a panel of rows at a time, with rows across vector lanes; they are used and forgotten, and the backward
// passes make them again, except those of the first tiles that ClassifierRows::kept has room for. Panels, tiles, tasks
// and the order of sums depend on the shape alone.

namespace bf::cpu {

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

/// The rows of W of a label's class and the one of them that a row is nearest to, which target_cosine() leaves in
/// target_rows: cos; ties go to the first.
template <class T>
std::pair<T, std::int64_t> nearest_center(const T* x, T ix, const T* w, const T* iw, std::int64_t first,
                                          std::int64_t centers, std::int64_t dim) {
    std::pair<T, std::int64_t> best{};
    const Eigen::Map<const Row<T>> a(x, dim);
    for (std::int64_t k = first; k < first + centers; ++k) {
        const T cosine = (a * Eigen::Map<const Row<T>>(w + k * dim, dim)).sum() * ix * iw[k];
        if (k == first || cosine > best.first || std::isnan(cosine)) best = {cosine, k};
    }
    return best;
}

/// cos of each row with the W row of its label; 0 for labels outside the class range. With several centers it is the
/// largest of the class, whose row goes to target_rows; -1 outside the range.
inline void target_cosine(Context&, const ClassifierRows& rows, const ClassifierWeights& weights,
                          const Tensor& cosine) {
    visit_real(cosine.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t dim = rows.x.dim(1), centers = weights.centers, classes = weights.w.dim(0) / centers;
        const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>(), *w = weights.w.data<T>(),
                *iw = weights.inverse_norm.data<T>();
        const std::int64_t* labels = rows.labels.data<std::int64_t>();
        T* out = cosine.data<T>();
        parallel_for(rows.count(), row_grain(dim), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const std::int64_t k = labels[r] - weights.class_begin;
                if (k < 0 || k >= classes) {
                    out[r] = 0;
                    if (centers > 1) rows.target_rows.data<std::int64_t>()[r] = -1;
                    continue;
                }
                if (centers > 1) {
                    const auto best = nearest_center(x + r * dim, ix[r], w, iw, k * centers, centers, dim);
                    out[r] = best.first;
                    rows.target_rows.data<std::int64_t>()[r] = weights.class_begin * centers + best.second;
                    continue;
                }
                const Eigen::Map<const Row<T>> a(x + r * dim, dim), b(w + k * dim, dim);
                out[r] = (a * b).sum() * ix[r] * iw[k];
            }
        });
    });
}

/// All rows of the sets, in order; a panel holds rows of one set.
template <class T>
std::vector<RowPanel> row_panels(const ClassifierRows* sets, int set_count) {
    std::vector<RowPanel> panels;
    for (int s = 0; s < set_count; ++s)
        for (std::int64_t r = 0; r < sets[s].count(); r += block_cols<T>)
            panels.push_back({&sets[s], r, std::min(block_cols<T>, sets[s].count() - r)});
    return panels;
}

/// body(first panel, panels) for groups of about P::row_group rows, one after the other.
template <class P, class F>
void for_row_groups(const std::vector<RowPanel>& panels, F&& body) {
    constexpr std::int64_t most = P::row_group / block_cols<typename P::Value>;
    const auto all = static_cast<std::int64_t>(panels.size());
    for (std::int64_t p = 0; p < all; p += most) body(panels.data() + p, std::min(most, all - p));
}

/// body(panel) for panels of rows of `dim` values; few of them are not worth a second thread.
template <class T, class F>
void for_panels(std::int64_t count, std::int64_t dim, F&& body) {
    parallel_for(count, row_grain(dim) / block_cols<T>, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) body(p);
    });
}

/// The rows of panels, packed as right sides of the logits.
template <class P>
class PackedPanels {
  public:
    PackedPanels(const RowPanel* panels, std::int64_t count)
        : size_(P::right_size(panels->rows->x.dim(1), block_cols<typename P::Value>)),
          packed_(Tensor::empty({count, size_}, {.dtype = dtype_of<typename P::Right>})) {
        for_panels<typename P::Value>(count, panels->rows->x.dim(1), [&](std::int64_t p) {
            P::pack_across(panels[p], packed_.data<typename P::Right>() + p * size_);
        });
    }
    const typename P::Right* operator[](std::int64_t panel) const {
        return packed_.data<typename P::Right>() + panel * size_;
    }

  private:
    std::int64_t size_;
    Tensor packed_;
};

/// Where the tile of classes [k0, k1) and a panel lies in the rows' kept logits; null if there is no room for it.
template <class T>
T* kept_logits(const RowPanel& panel, std::int64_t k0, std::int64_t k1) {
    const Tensor& kept = panel.rows->kept;
    const std::int64_t width = padded_cols<T>(panel.rows->count());
    return kept.defined() && k1 * width <= kept.numel() ? kept.data<T>() + k0 * width + panel.first * (k1 - k0)
                                                        : nullptr;
}

/// z[k - k0, i] = s cos of class k and row i of the panel, cosines limited to [-1, 1], for the classes [k0, k1) of the
/// products; -inf for a row's own class, unless it has several centers.
template <class P, class T>
void logit_tile(const RowPanel& panel, P& products, const typename P::Right* across, T* z) {
    products.logits(across, z);
    const ClassifierWeights& weights = products.weights;
    const std::int64_t k0 = products.k0, k1 = products.k1;
    const T* iw = weights.inverse_norm.data<T>();
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
    if (weights.centers > 1) return;
    const std::int64_t* labels = panel.rows->labels.data<std::int64_t>() + panel.first;
    for (std::int64_t i = 0; i < panel.count; ++i) {
        const std::int64_t own = labels[i] - weights.class_begin;
        if (own >= k0 && own < k1) z[(own - k0) * block_cols<T> + i] = -std::numeric_limits<T>::infinity();
    }
}

/// Takes a tile [classes, block_cols] of s cos into the largest logit of each row and the sum of exp(logit - largest).
template <class T, class Head>
void add_statistics(const T* z, std::int64_t classes, const Head& head, T* largest, T* sum) {
    const Vector<T> none = broadcast(-std::numeric_limits<T>::infinity());
    Vector<T> top[2], base[2], total[2] = {};
    const auto logit = [&](std::int64_t k, auto h) {
        return head.logit(load(z + k * block_cols<T> + static_cast<std::int64_t>(h) * lanes<T>), h);
    };
    repeated<2>([&](auto h) { top[h] = load(largest + static_cast<std::int64_t>(h) * lanes<T>); });
    for (std::int64_t k = 0; k < classes; ++k) repeated<2>([&](auto h) { top[h] = larger<T>(top[h], logit(k, h)); });
    repeated<2>([&](auto h) { base[h] = top[h] == none ? Vector<T>{} : top[h]; });
    for (std::int64_t k = 0; k < classes; ++k)
        repeated<2>([&](auto h) { total[h] += exponential<T>(logit(k, h) - base[h]); });
    repeated<2>([&](auto h) {
        T *m = largest + static_cast<std::int64_t>(h) * lanes<T>, *s = sum + static_cast<std::int64_t>(h) * lanes<T>;
        store(s, load(s) * exponential<T>(load(m) - base[h]) + total[h]);
        store(m, top[h]);
    });
}

/// Largest logit and sum of exp(logit - largest) of each row over the range's classes without the row's own label.
/// Shards of classes join by maximum and rescaled sum. A row with no other class gets (-inf, 0). Classes are taken in
/// up to 32 fixed ranges, joined in order. `plain` gets the largest s cos of these classes where it is defined, which
/// only rows with hard classes want.
inline void classifier_statistics(Context&, const ClassifierRows& rows, const ClassifierWeights& weights,
                                  const Tensor& largest, const Tensor& sum, const Tensor& plain) {
    visit_products(weights, [&]<class P>() {
        using T = typename P::Value;
        const std::int64_t classes = weights.w.dim(0), tile = tile_rows<P>(weights),
                           tiles = (classes + tile - 1) / tile, parts = std::min<std::int64_t>(32, tiles);
        const T none = -std::numeric_limits<T>::infinity();
        const TensorOptions made{.dtype = dtype_of<T>};
        for_row_groups<P>(row_panels<T>(&rows, 1), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>;
            const PackedPanels<P> across(panels, count);
            const Tensor partial = Tensor::empty({plain.defined() ? 3 : 2, parts, width}, made);
            T *tops = partial.data<T>(), *totals = tops + parts * width, *plains = totals + parts * width;
            std::fill_n(tops, parts * width, none);
            std::fill_n(totals, parts * width, T(0));
            if (plain.defined()) std::fill_n(plains, parts * width, none);
            parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
                const Tensor scratch = Tensor::empty({tile, block_cols<T>}, made);
                const CenterTile<T> centers(weights, tile);
                for (std::int64_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
                    const std::int64_t k0 = t * tile, k1 = std::min(classes, k0 + tile);
                    P products(weights, k0, k1);
                    for (std::int64_t p = 0; p < count; ++p) {
                        T* made_at = kept_logits<T>(panels[p], k0, k1);
                        if (!made_at) made_at = scratch.data<T>();
                        logit_tile(panels[p], products, across[p], made_at);
                        const T* z = weights.centers == 1 ? made_at : centers.largest(panels[p], k0, k1, made_at);
                        const std::int64_t height = (k1 - k0) / weights.centers;
                        const std::int64_t at = part * width + p * block_cols<T>;
                        visit_classes<T>(panels[p], weights.scale, [&](const auto& head) {
                            add_statistics(z, height, head, tops + at, totals + at);
                        });
                        if (plain.defined()) add_largest(z, height, plains + at);
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
                    if (!plain.defined()) continue;
                    T cosine = none;
                    for (std::int64_t part = 0; part < parts; ++part)
                        cosine = std::max(cosine, plains[part * width + at]);
                    plain.data<T>()[panels[p].first + i] = cosine;
                }
        });
    });
}

/// CurricularFace: above[i] = cos(theta_i + m) of target cosines [R], and, unless rate is 0, t <- rate mean of the
/// target cosines, limited to [-1, 1], + (1 - rate) t.
inline void hard_classes(Context&, double m, double rate, const Tensor& cosine, const Tensor& t, const Tensor& above) {
    visit_real(cosine.dtype(), "margin_softmax", [&]<class T>() {
        double sum = 0;
        for (std::int64_t i = 0; i < cosine.numel(); ++i) {
            const T c = cosine.data<T>()[i];
            above.data<T>()[i] = math::hard_above(c, static_cast<T>(m));
            sum += static_cast<double>(c > T(1) ? T(1) : (c < T(-1) ? T(-1) : c));
        }
        T& mean = *t.data<T>();
        if (rate > 0)
            mean = static_cast<T>(rate * sum / static_cast<double>(cosine.numel()) +
                                  (1 - rate) * static_cast<double>(mean));
    });
}

/// Classes of rows of W that has `centers` rows a class.
inline void class_labels(Context&, const Tensor& rows, std::int64_t centers, const Tensor& labels) {
    for (std::int64_t i = 0; i < rows.numel(); ++i)
        labels.data<std::int64_t>()[i] = rows.data<std::int64_t>()[i] / centers;
}

inline void margin_rows(Context&, const Margin& margin, double scale, const ClassifierRows& rows,
                        const ClassifierStatistics& statistics, const Tensor& loss, const Tensor& correct) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const auto sums = bf::margin_rows<T>(margin, scale, rows, statistics);
        *loss.data<T>() = static_cast<T>(sums.first);
        *correct.data<T>() = static_cast<T>(sums.second);
    });
}

/// d loss / d cos of a panel's entries, times the row's weight and s, from its z = s cos [classes, block_cols], to
/// g [classes, block_cols], which may be z.
template <class T, class S, class Head>
void gradient_tile(const RowPanel& panel, const ClassifierWeights& weights, std::int64_t k0, std::int64_t k1,
                   const Head& head, T row_weight, const T* z, S* g) {
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
    for (std::int64_t k = 0; k < (k1 - k0) * block_cols<T>; k += block_cols<T>) {
        Vector<T> line[2];
        repeated<2>([&](auto h) {
            const Vector<T> plain = load(z + k + static_cast<std::int64_t>(h) * lanes<T>);
            line[h] = head.through(exponential<T>(head.logit(plain, h) - base[h]) * factor, plain, h);
        });
        if constexpr (std::is_same_v<S, bf16>)
            store_rounded(g + k, line[0], line[1], false);
        else
            repeated<2>([&](auto h) { store(g + k + static_cast<std::int64_t>(h) * lanes<T>, line[h]); });
    }
    for (std::int64_t i = 0; i < panel.count; ++i) {
        const std::int64_t own = labels[i] - weights.class_begin;
        if (own >= k0 && own < k1)
            g[(own - k0) * block_cols<T> + i] =
                static_cast<S>((std::exp(target[i] - lse[i]) - T(1)) * slope[i] * scaled);
    }
}

/// The same, from kept logits or else from logits made here.
template <class P>
void make_gradients(const RowPanel& panel, P& products, const CenterTile<typename P::Value>& centers,
                    typename P::Value row_weight, const typename P::Right* across, typename P::Gradient* g) {
    using T = typename P::Value;
    const T* z = kept_logits<T>(panel, products.k0, products.k1);
    if (!z) {
        T* const room = products.logits_before(g);
        logit_tile(panel, products, across, room);
        z = room;
    }
    const ClassifierWeights& weights = products.weights;
    const std::int64_t k0 = products.k0, k1 = products.k1;
    visit_classes<T>(panel, weights.scale, [&](const auto& head) {
        if (weights.centers == 1) return gradient_tile(panel, weights, k0, k1, head, row_weight, z, g);
        gradient_tile(panel, weights, k0 / weights.centers, k1 / weights.centers, head, row_weight,
                      centers.largest(panel, k0, k1, z), centers.gradients());
        centers.spread(panel, k0, k1, z, g);
    });
}

/// dW = gradient of sum over all row sets of row_weight (log_sum_exp - target_logit); each task owns a tile of
/// classes.
inline void classifier_dw(Context&, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
                          const ClassifierWeights& weights, const Tensor& dw) {
    visit_products(weights, [&]<class P>() {
        using T = typename P::Value;
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1), cols = padded_cols<T>(dim),
                           sum_row = P::sum_row(dim);
        const T *w = weights.w.data<T>(), *iw = weights.inverse_norm.data<T>();
        T* out = dw.data<T>();
        bool begin = true;
        for_row_groups<P>(row_panels<T>(sets, set_count), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>;
            const PackedPanels<P> across(panels, count);
            const Tensor packed = Tensor::empty({P::right_size(width, cols)}, {.dtype = dtype_of<typename P::Right>});
            auto* along = packed.data<typename P::Right>();
            for_panels<T>(count, dim, [&](std::int64_t p) {
                const RowPanel& panel = panels[p];
                P::pack_along(panel.rows->x.data<T>() + panel.first * dim,
                              panel.rows->inverse_norm.data<T>() + panel.first, panel.count, dim, width,
                              p * block_cols<T>, along);
            });
            parallel_for(classes, tile_rows<P>(weights), [&](std::int64_t k0, std::int64_t k1) {
                constexpr std::int64_t most = P::row_tile / block_cols<T>;
                const std::int64_t height = k1 - k0;
                const Tensor gradients =
                                 Tensor::empty({height, P::row_tile}, {.dtype = dtype_of<typename P::Gradient>}),
                             product = Tensor::empty({height, sum_row}, {.dtype = dtype_of<T>});
                auto* g = gradients.data<typename P::Gradient>();
                T* sums = product.data<T>();
                P products(weights, k0, k1);
                const CenterTile<T> centers(weights, height);
                for (std::int64_t first = 0; first < count; first += most) {
                    const std::int64_t here = std::min(most, count - first);
                    for (std::int64_t p = 0; p < here; ++p)
                        make_gradients(panels[first + p], products, centers, factor, across[first + p],
                                       g + p * height * block_cols<T>);
                    products.add_rows(panels, first, here, g, along, width, sums);
                }
                // through the normalisation of W: dw = (g - u (u . g)) / |w|
                for (std::int64_t k = k0; k < k1; ++k) {
                    const Eigen::Map<const Row<T>> sum(sums + (k - k0) * sum_row, dim), row(w + k * dim, dim);
                    const T onto = (sum * row).sum() * iw[k] * iw[k];
                    Eigen::Map<Row<T>> to(out + k * dim, dim);
                    if (begin)
                        to = (sum - row * onto) * iw[k];
                    else
                        to += (sum - row * onto) * iw[k];
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
    visit_products(weights, [&]<class P>() {
        using T = typename P::Value;
        const T factor = static_cast<T>(row_weight * seed.item());
        const std::int64_t classes = weights.w.dim(0), dim = weights.w.dim(1), cols = padded_cols<T>(dim),
                           sum_row = P::sum_row(dim);
        const std::int64_t tile = tile_rows<P>(weights), tiles = (classes + tile - 1) / tile;
        const T *w = weights.w.data<T>(), *iw = weights.inverse_norm.data<T>();
        const T *x = rows.x.data<T>(), *ix = rows.inverse_norm.data<T>();
        T* out = dx.data<T>();
        for_row_groups<P>(row_panels<T>(&rows, 1), [&](const RowPanel* panels, std::int64_t count) {
            const std::int64_t width = count * block_cols<T>,
                               parts = std::min(tiles, std::clamp<std::int64_t>(8192 / width, 8, 32));
            const PackedPanels<P> across(panels, count);
            const Tensor partial = Tensor::empty({parts, width, sum_row}, {.dtype = dtype_of<T>});
            T* sums = partial.data<T>();
            parallel_for(parts, 1, [&](std::int64_t part, std::int64_t) {
                const Tensor gradients = Tensor::empty({P::whole_steps(tile), block_cols<T>},
                                                       {.dtype = dtype_of<typename P::Gradient>}),
                             packed =
                                 Tensor::empty({P::right_size(tile, cols)}, {.dtype = dtype_of<typename P::Right>});
                auto* g = gradients.data<typename P::Gradient>();
                auto* unit = packed.data<typename P::Right>();
                T* sum = sums + part * width * sum_row;
                const CenterTile<T> centers(weights, tile);
                std::fill_n(sum, width * sum_row, T(0));
                for (std::int64_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
                    const std::int64_t k0 = t * tile, k1 = std::min(classes, k0 + tile), height = k1 - k0;
                    P products(weights, k0, k1);
                    P::pack_along(w + k0 * dim, iw + k0, height, dim, height, 0, unit);
                    for (std::int64_t p = 0; p < count; ++p) {
                        make_gradients(panels[p], products, centers, factor, across[p], g);
                        products.add_classes(panels[p].count, g, unit, sum + p * block_cols<T> * sum_row);
                    }
                }
            });
            for_panels<T>(count, dim, [&](std::int64_t p) {
                for (std::int64_t i = 0; i < panels[p].count; ++i) {
                    const std::int64_t r = panels[p].first + i;
                    Row<T> g = Row<T>::Zero(dim);
                    for (std::int64_t part = 0; part < parts; ++part)
                        g += Eigen::Map<const Row<T>>(sums + (part * width + p * block_cols<T> + i) * sum_row, dim);
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
