#pragma once
#include "bf/kernels/classifier.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/kernels/cpu_tiles.hpp"

// CPU: the three large products of the margin softmax: logits, dW and dx. There are two classes of them, one for
// operands as they are and one for operands rounded to bf16. Each says how large pieces of the work are and how right
// sides are packed, and an object of it makes the products of one tile of classes.

namespace bf::cpu {

/// Up to block_cols<T> rows of a set: those that share vectors.
struct RowPanel {
    const ClassifierRows* rows;
    std::int64_t first, count;
};

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

/// Products of the classes [k0, k1) with operands as they are.
template <class T>
struct ExactProducts {
    using Value = T;     ///< of logits and sums
    using Right = T;     ///< elements of a packed right side
    using Gradient = T;  ///< of logits, as the products take it

    /// Rows that are packed at once, and those whose gradients a tile of classes holds at once.
    static constexpr std::int64_t row_group = 2048, row_tile = 256;
    /// Classes a tile: few enough that eight tasks share them, and whole groups of rows of multiply_block() on any
    /// target.
    static std::int64_t class_tile(std::int64_t classes) {
        return std::clamp<std::int64_t>((classes + 335) / 336, 1, 3) * 42;
    }
    /// Rows of gradients that add_classes() may write to.
    static std::int64_t whole_steps(std::int64_t classes) { return classes; }
    /// Distance of rows of sums over D: whole blocks of columns.
    static std::int64_t sum_row(std::int64_t dim) { return padded_cols<T>(dim); }
    /// Elements of a right side [depth, columns], columns being whole blocks.
    static std::int64_t right_size(std::int64_t depth, std::int64_t columns) { return depth * columns; }

    /// x / |x| of the panel's rows as a right side [D, block_cols], a row a column; missing rows are 0.
    static void pack_across(const RowPanel& panel, T* out) {
        const std::int64_t dim = panel.rows->x.dim(1);
        const T *x = panel.rows->x.data<T>() + panel.first * dim,
                *ix = panel.rows->inverse_norm.data<T>() + panel.first;
        for (std::int64_t d = 0; d < dim; ++d, out += block_cols<T>) {
            for (std::int64_t r = 0; r < panel.count; ++r) out[r] = x[r * dim + d] * ix[r];
            std::fill(out + panel.count, out + block_cols<T>, T(0));
        }
    }
    /// Scaled rows of x [rows, D] as right sides [height, block_cols], one for each block of columns: row r lies in the
    /// place at + r of each, and missing columns are 0.
    static void pack_along(const T* x, const T* factor, std::int64_t rows, std::int64_t dim, std::int64_t height,
                           std::int64_t at, T* out) {
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t d = 0; d < dim; d += block_cols<T>) {
                T* to = out + d * height + (at + r) * block_cols<T>;
                const T* from = x + r * dim + d;
                const std::int64_t count = std::min(block_cols<T>, dim - d);
                for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] * factor[r];
                std::fill(to + count, to + block_cols<T>, T(0));
            }
    }

    ExactProducts(const ClassifierWeights& of, std::int64_t first, std::int64_t end)
        : weights(of), k0(first), k1(end) {}

    /// z [classes, block_cols] = rows of W times a panel.
    void logits(const T* across, T* z) const {
        const std::int64_t dim = weights.w.dim(1);
        multiply_terms<false, T>(k1 - k0, 1, weights.w.data<T>() + k0 * dim, 0, across, 0, dim, {dim, 1, block_cols<T>},
                                 z, block_cols<T>);
    }
    /// Where logits can be made whose gradients go to g.
    T* logits_before(T* g) const { return g; }
    /// sums [classes, cols] = or, if these are not the first panels, += gradients of panels [first, first + count),
    /// g [count, classes, block_cols], times their rows, which lie in `along` of `height` rows.
    void add_rows(const RowPanel* panels, std::int64_t first, std::int64_t count, const T* g, const T* along,
                  std::int64_t height, T* sums) const {
        const std::int64_t classes = k1 - k0, cols = padded_cols<T>(weights.w.dim(1)), block = block_cols<T>;
        // panels of as many rows are the terms of one product
        for (std::int64_t p = 0, q; p < count; p = q) {
            for (q = p + 1; q < count && panels[first + q].count == panels[first + p].count;) ++q;
            const T *a = g + p * classes * block, *b = along + (first + p) * block * block;
            const auto multiply = first + p ? &multiply_terms<true, T> : &multiply_terms<false, T>;
            for (std::int64_t d = 0; d < cols; d += block)
                multiply(classes, q - p, a, classes * block, b + d * height, block * block, panels[first + p].count,
                         {block, 1, block}, sums + d, cols);
        }
    }
    /// sums [rows, cols] += gradients g [classes, block_cols] of a panel, turned, times rows of W as pack_along() gives
    /// them.
    void add_classes(std::int64_t rows, const T* g, const T* along, T* sums) const {
        const std::int64_t classes = k1 - k0, cols = padded_cols<T>(weights.w.dim(1));
        for (std::int64_t d = 0; d < cols; d += block_cols<T>)
            multiply_terms<true, T>(rows, 1, g, 0, along + d * classes, 0, classes, {1, block_cols<T>, block_cols<T>},
                                    sums + d, cols);
    }

    const ClassifierWeights& weights;
    const std::int64_t k0, k1;
};

#if defined(__AVX512F__) && defined(__AVX512BF16__)

/// The same with operands rounded to bf16 and sums in f32. Depths are filled up with zeros to steps of 32.
struct Bf16Products {
    using Value = float;
    using Right = Bf16Pair;
    using Gradient = bf16;

    /// A group packs as many bytes as without rounding.
    static constexpr std::int64_t row_group = 4096, row_tile = 256, step = 32;
    /// Classes a tile: as many as meet packed rows at once without driving a core's sums out of its cache.
    static std::int64_t class_tile(std::int64_t classes) {
        return std::clamp<std::int64_t>((classes + 511) / 512, 1, 8) * step;
    }
    /// A line more than D needs, so that rows of a block do not meet in few sets of the cache.
    static std::int64_t sum_row(std::int64_t dim) { return padded_cols<float>(dim) + 16; }
    static std::int64_t steps_of(std::int64_t depth) { return (depth + step - 1) / step; }
    static std::int64_t whole_steps(std::int64_t classes) { return steps_of(classes) * step; }
    static std::int64_t right_size(std::int64_t depth, std::int64_t columns) {
        return steps_of(depth) * (step / 2) * columns;
    }

    /// `count` <= 32 values times a factor, rounded, and zeros up to 32.
    static void round_line(const float* from, float factor, std::int64_t count, bf16* to) {
        store_rounded(to, load(from, count) * factor, load(from + 16, count - 16) * factor, false);
    }
    static void pack_across(const RowPanel& panel, Bf16Pair* out) {
        const std::int64_t dim = panel.rows->x.dim(1);
        const float *x = panel.rows->x.data<float>() + panel.first * dim,
                    *ix = panel.rows->inverse_norm.data<float>() + panel.first;
        alignas(64) bf16 lines[32 * step] = {};
        for (std::int64_t d = 0; d < dim; d += step, out += step / 2 * 32) {
            for (std::int64_t r = 0; r < panel.count; ++r)
                round_line(x + r * dim + d, ix[r], std::min(step, dim - d), lines + r * step);
            for (std::int64_t half = 0; half < 32; half += 16)
                transpose_lanes(reinterpret_cast<const Bf16Pair*>(lines + half * step), step / 2, out + half, 32);
        }
    }
    static void pack_along(const float* x, const float* factor, std::int64_t rows, std::int64_t dim,
                           std::int64_t height, std::int64_t at, Bf16Pair* out) {
        alignas(64) bf16 lines[2 * 32];
        for (std::int64_t r = 0; r < steps_of(rows) * step; r += 2)
            for (std::int64_t d = 0; d < dim; d += 32) {
                for (std::int64_t i = 0; i < 2; ++i)
                    if (r + i < rows)
                        round_line(x + (r + i) * dim + d, factor[r + i], std::min<std::int64_t>(32, dim - d),
                                   lines + i * 32);
                    else
                        std::fill_n(lines + i * 32, 32, bf16());
                interleave(lines, lines + 32, out + right_size(height, d) + (at + r) / 2 * 32);
            }
    }

    Bf16Products(const ClassifierWeights& of, std::int64_t first, std::int64_t end) : weights(of), k0(first), k1(end) {}

    void logits(const Bf16Pair* across, float* z) {
        const std::int64_t steps = steps_of(weights.w.dim(1));
        if (!left_.defined()) round_classes();
        blocks_.multiply<false>(k1 - k0, steps, left_.data<bf16>(), steps * 32 * step, 32 * step, across, z, 32);
    }
    float* logits_before(bf16*) {
        if (!logits_.defined()) logits_ = Tensor::empty({k1 - k0, 32});
        return logits_.data<float>();
    }
    void add_rows(const RowPanel*, std::int64_t first, std::int64_t count, const bf16* g, const Bf16Pair* along,
                  std::int64_t height, float* sums) {
        const std::int64_t classes = k1 - k0, dim = weights.w.dim(1), row = sum_row(dim);
        for (std::int64_t d = 0; d < dim; d += 32) {
            const Bf16Pair* right = along + right_size(height, d) + right_size(first * 32, 32);
            if (first)
                blocks_.multiply<true>(classes, count, g, 32 * 32, classes * 32, right, sums + d, row);
            else
                blocks_.multiply<false>(classes, count, g, 32 * 32, classes * 32, right, sums + d, row);
        }
    }
    void add_classes(std::int64_t rows, bf16* g, const Bf16Pair* along, float* sums) {
        const std::int64_t classes = k1 - k0, steps = steps_of(classes), dim = weights.w.dim(1);
        std::fill(g + classes * 32, g + steps * step * 32, bf16());
        if (!turned_.defined()) turned_ = Tensor::empty({32, steps * step}, {.dtype = DType::bf16});
        for (std::int64_t t = 0; t < steps; ++t)
            turn_block(g + t * step * 32, 32, turned_.data<bf16>() + t * 32 * step, step);
        for (std::int64_t d = 0; d < dim; d += 32)
            blocks_.multiply<true>(rows, steps, turned_.data<bf16>(), 0, 32 * step, along + right_size(classes, d),
                                   sums + d, sum_row(dim));
    }

    const ClassifierWeights& weights;
    const std::int64_t k0, k1;

  private:
    /// Rows of W as a left side: blocks of 32 classes, in each the steps of D. Made for the first panel whose logits
    /// were not kept, and not of unit length: that factor is one of the logits.
    void round_classes() {
        const std::int64_t dim = weights.w.dim(1), steps = steps_of(dim);
        left_ = Tensor::empty({steps_of(k1 - k0) * 32, steps * step}, {.dtype = DType::bf16});
        const float* w = weights.w.data<float>() + k0 * dim;
        for (std::int64_t k = 0; k < k1 - k0; ++k) {
            bf16* to = left_.data<bf16>() + k / 32 * steps * 32 * step + k % 32 * step;
            for (std::int64_t d = 0; d < dim; d += step, to += 32 * step)
                round_line(w + k * dim + d, 1, std::min(step, dim - d), to);
        }
    }

    BlockProducts blocks_;
    Tensor left_, logits_, turned_;
};

#endif

/// body.operator()<P>() with the products that the weights ask for, as far as the target has them.
template <class F>
void visit_products(const ClassifierWeights& weights, F&& body) {
#if defined(__AVX512F__) && defined(__AVX512BF16__)
    if (weights.w.dtype() == DType::f32 && weights.products == DType::bf16)
        return body.template operator()<Bf16Products>();
#endif
    visit_real(weights.w.dtype(), "margin_softmax", [&]<class T>() { body.template operator()<ExactProducts<T>>(); });
}

}  // namespace bf::cpu
