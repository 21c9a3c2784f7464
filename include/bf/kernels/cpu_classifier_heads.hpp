#pragma once
#include <limits>

#include "bf/kernels/cpu_classifier_products.hpp"
#include "bf/kernels/cpu_exp.hpp"

// CPU: what heads of the margin softmax do to the logits of other classes, for a panel of rows across vector lanes.
// Logits are made, and kept, as s cos; a head's own ones stand in registers only.

namespace bf::cpu {

/// Most heads leave them as they are. h: which half of the panel, an integral_constant.
template <class T>
struct UsualClasses {
    template <class H>
    [[gnu::always_inline]] Vector<T> logit(Vector<T> z, H) const {
        return z;
    }
    /// g d logit / d z.
    template <class H>
    [[gnu::always_inline]] Vector<T> through(Vector<T> g, Vector<T>, H) const {
        return g;
    }
};

/// math::HardClasses of the rows of a panel; a missing row has none.
template <class T>
class HardPanel {
  public:
    HardPanel(const RowPanel& panel, T scale)
        : shift_(broadcast(*panel.rows->hard_shift.data<T>())), inverse_scale_(broadcast(T(1) / scale)) {
        T above[block_cols<T>];
        const T* of = panel.rows->hard_above.data<T>() + panel.first;
        std::fill(std::copy_n(of, panel.count, above), above + block_cols<T>, std::numeric_limits<T>::infinity());
        repeated<2>([&](auto h) { above_[h] = load(above + static_cast<std::int64_t>(h) * lanes<T>) * scale; });
    }
    template <class H>
    [[gnu::always_inline]] Vector<T> logit(Vector<T> z, H h) const {
        return z > above_[h] ? z * (shift_ + z * inverse_scale_) : z;
    }
    template <class H>
    [[gnu::always_inline]] Vector<T> through(Vector<T> g, Vector<T> z, H h) const {
        return z > above_[h] ? g * (shift_ + T(2) * z * inverse_scale_) : g;
    }

  private:
    Vector<T> above_[2], shift_, inverse_scale_;
};

/// body(classes) with the panel's UsualClasses or HardPanel.
template <class T, class F>
void visit_classes(const RowPanel& panel, double scale, F&& body) {
    if (panel.rows->hard_above.defined())
        body(HardPanel<T>(panel, static_cast<T>(scale)));
    else
        body(UsualClasses<T>());
}

/// Takes a tile [classes, block_cols] into the largest value of each row.
template <class T>
void add_largest(const T* z, std::int64_t classes, T* largest) {
    for (std::int64_t at = 0; at < block_cols<T>; at += lanes<T>) {
        Vector<T> top = load(largest + at);
        for (std::int64_t k = 0; k < classes; ++k) top = larger<T>(top, load(z + k * block_cols<T> + at));
        store(largest + at, top);
    }
}

/// Rows of W that a tile of P has: with several centers whole classes.
template <class P>
std::int64_t tile_rows(const ClassifierWeights& weights) {
    const std::int64_t rows = P::class_tile(weights.w.dim(0));
    return (rows + weights.centers - 1) / weights.centers * weights.centers;
}

/// v where z takes part in the maximum `top` of some centers, which is one of them; otherwise 0.
template <class T>
[[gnu::always_inline]] inline Vector<T> where_top(Vector<T> z, Vector<T> top, Vector<T> v) {
    return z == top ? v : (z != z ? v : Vector<T>{});
}

/// Classes of a tile that have several centers: their largest logits, and gradients of these. Made once a task.
template <class T>
class CenterTile {
  public:
    /// rows: of W, at most.
    CenterTile(const ClassifierWeights& weights, std::int64_t rows) : weights_(weights) {
        if (weights.centers > 1)
            both_ = Tensor::empty({2, rows / weights.centers, block_cols<T>}, {.dtype = dtype_of<T>});
    }

    /// [classes, block_cols]: of the rows [k0, k1) of W, z [rows, block_cols], the largest of each class; -inf for a
    /// row's own class, not a number where a center is none.
    const T* largest(const RowPanel& panel, std::int64_t k0, std::int64_t k1, const T* z) const {
        T* const out = both_.data<T>();
        const std::int64_t centers = weights_.centers, classes = (k1 - k0) / centers;
        for (std::int64_t k = 0; k < classes; ++k)
            for (std::int64_t at = 0; at < block_cols<T>; at += lanes<T>) {
                const T* from = z + k * centers * block_cols<T> + at;
                Vector<T> top = load(from);
                for (std::int64_t c = 1; c < centers; ++c) {
                    const Vector<T> v = load(from + c * block_cols<T>);
                    top = v > top ? v : (v != v ? v : top);
                }
                store(out + k * block_cols<T> + at, top);
            }
        const std::int64_t* labels = panel.rows->labels.data<std::int64_t>() + panel.first;
        for (std::int64_t i = 0; i < panel.count; ++i) {
            const std::int64_t own = labels[i] - weights_.class_begin - k0 / centers;
            if (own >= 0 && own < classes) out[own * block_cols<T> + i] = -std::numeric_limits<T>::infinity();
        }
        return out;
    }
    /// Room for the gradients of largest().
    T* gradients() const { return both_.data<T>() + both_.numel() / 2; }

    /// Gives the gradients to the centers that largest() took, the first of equal ones, and to the own class's target
    /// row: from z to g [rows, block_cols], which may be z.
    template <class S>
    void spread(const RowPanel& panel, std::int64_t k0, std::int64_t k1, const T* z, S* g) const {
        const T *tops = both_.data<T>(), *from = gradients();
        const std::int64_t centers = weights_.centers;
        for (std::int64_t k = 0; k < k1 - k0; k += centers, tops += block_cols<T>, from += block_cols<T>) {
            Vector<T> left[2];
            repeated<2>([&](auto h) { left[h] = load(from + static_cast<std::int64_t>(h) * lanes<T>); });
            for (std::int64_t line = k * block_cols<T>; line < (k + centers) * block_cols<T>; line += block_cols<T>) {
                Vector<T> here[2];
                repeated<2>([&](auto h) {
                    const std::int64_t at = static_cast<std::int64_t>(h) * lanes<T>;
                    here[h] = where_top<T>(load(z + line + at), load(tops + at), left[h]);
                    left[h] = here[h] == Vector<T>{} ? left[h] : Vector<T>{};
                });
                if constexpr (std::is_same_v<S, bf16>)
                    store_rounded(g + line, here[0], here[1], false);
                else
                    repeated<2>([&](auto h) { store(g + line + static_cast<std::int64_t>(h) * lanes<T>, here[h]); });
            }
        }
        const std::int64_t* target = panel.rows->target_rows.data<std::int64_t>() + panel.first;
        for (std::int64_t i = 0; i < panel.count; ++i) {
            const std::int64_t row = target[i] - weights_.class_begin * centers - k0;
            if (target[i] >= 0 && row >= 0 && row < k1 - k0)
                g[row * block_cols<T> + i] = static_cast<S>(gradients()[row / centers * block_cols<T> + i]);
        }
    }

  private:
    const ClassifierWeights& weights_;
    Tensor both_;
};

}  // namespace bf::cpu
