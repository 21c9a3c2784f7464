#pragma once
#include <cmath>

#include "bf/core/parallel.hpp"
#include "bf/kernels/cpu_eigen.hpp"
#include "bf/kernels/cpu_pointwise.hpp"

// CPU: GEMM through Eigen, and ops on rows of a matrix.

namespace bf::cpu {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using MatrixView = Eigen::Map<Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ConstMatrixView = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

/// c[rows, cols] = alpha op(a) op(b) + beta c on one thread; a is a view as stored.
template <class T>
void gemm_block(bool trans_a, bool trans_b, T alpha, ConstMatrixView<T> a, ConstMatrixView<T> b, T beta,
                MatrixView<T> c) {
    if (beta == T(0))
        c.setZero();
    else if (beta != T(1))
        c *= beta;
    if (!trans_a && !trans_b)
        c.noalias() += alpha * (a * b);
    else if (!trans_a)
        c.noalias() += alpha * (a * b.transpose());
    else if (!trans_b)
        c.noalias() += alpha * (a.transpose() * b);
    else
        c.noalias() += alpha * (a.transpose() * b.transpose());
}

/// Cuts the longer side of c into about eight blocks of at least 32; the cut depends on the shape alone.
inline void gemm(Context& ctx, bool trans_a, bool trans_b, double alpha, const Tensor& a, const Tensor& b, double beta,
                 const Tensor& c) {
    if (widened<1, true>(gemm, ctx, trans_a, trans_b, alpha, a, b, beta, c)) return;
    visit_real(c.dtype(), "gemm", [&]<class T>() {
        const std::int64_t m = c.dim(0), n = c.dim(1), lda = a.dim(1), ldb = b.dim(1);
        const std::int64_t k = trans_a ? a.dim(0) : a.dim(1);
        const T *pa = a.data<T>(), *pb = b.data<T>();
        T* pc = c.data<T>();
        const bool by_rows = m >= n;
        const std::int64_t longer = by_rows ? m : n;
        const std::int64_t block = std::max<std::int64_t>(32, ((longer + 7) / 8 + 15) / 16 * 16);
        parallel_for(longer, block, [&](std::int64_t begin, std::int64_t end) {
            const std::int64_t count = end - begin;
            const std::int64_t rows = by_rows ? count : m, cols = by_rows ? n : count;
            const T* block_a = !by_rows ? pa : (trans_a ? pa + begin : pa + begin * lda);
            const T* block_b = by_rows ? pb : (trans_b ? pb + begin * ldb : pb + begin);
            T* block_c = by_rows ? pc + begin * n : pc + begin;
            gemm_block<T>(trans_a, trans_b, static_cast<T>(alpha),
                          {block_a, trans_a ? k : rows, trans_a ? rows : k, Eigen::OuterStride<>(lda)},
                          {block_b, trans_b ? cols : k, trans_b ? k : cols, Eigen::OuterStride<>(ldb)},
                          static_cast<T>(beta), {block_c, rows, cols, Eigen::OuterStride<>(n)});
        });
    });
}

/// Rows a task, so that a task touches about 32k elements.
inline std::int64_t row_grain(std::int64_t cols) {
    return std::max<std::int64_t>(1, (1 << 15) / std::max<std::int64_t>(1, cols));
}

inline void broadcast_rows(Context& ctx, const Tensor& bias, const Tensor& y) {
    if (widened<1>(broadcast_rows, ctx, bias, y)) return;
    visit_real(y.dtype(), "broadcast_rows", [&]<class T>() {
        const std::int64_t cols = y.dim(1);
        const T* in = bias.data<T>();
        T* out = y.data<T>();
        for (std::int64_t r = 0; r < y.dim(0); ++r) std::copy_n(in, cols, out + r * cols);
    });
}

inline void gather_rows(Context& ctx, const Tensor& x, const Tensor& index, const Tensor& y) {
    if (widened<1>(gather_rows, ctx, x, index, y)) return;
    visit_real(x.dtype(), "gather_rows", [&]<class T>() {
        const std::int64_t cols = x.dim(1);
        const T* in = x.data<T>();
        const std::int64_t* at = index.data<std::int64_t>();
        T* out = y.data<T>();
        parallel_for(index.numel(), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) std::copy_n(in + at[i] * cols, cols, out + i * cols);
        });
    });
}

inline void scatter_add_rows(Context& ctx, const Tensor& dy, const Tensor& index, const Tensor& dx) {
    if (widened<1, true>(scatter_add_rows, ctx, dy, index, dx)) return;
    visit_real(dx.dtype(), "gather_rows", [&]<class T>() {
        const std::int64_t cols = dx.dim(1);
        const T* g = dy.data<T>();
        const std::int64_t* at = index.data<std::int64_t>();
        T* d = dx.data<T>();
        for (std::int64_t i = 0; i < index.numel(); ++i)
            for (std::int64_t c = 0; c < cols; ++c) d[at[i] * cols + c] += g[i * cols + c];
    });
}

inline void normalize_rows(Context&, const Tensor& x, const Tensor& y, const Tensor& inverse_norm) {
    visit_real(x.dtype(), "normalize_rows", [&]<class T>() {
        const std::int64_t cols = x.dim(1);
        const T* in = x.data<T>();
        T *out = y.data<T>(), *inverse = inverse_norm.data<T>();
        parallel_for(x.dim(0), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> row(in + r * cols, cols);
                inverse[r] = T(1) / std::max(static_cast<T>(1e-12), std::sqrt(row.square().sum()));
                Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(out + r * cols, cols) = row * inverse[r];
            }
        });
    });
}

inline void normalize_rows_dx(Context&, const Tensor& y, const Tensor& inverse_norm, const Tensor& dy,
                              const Tensor& dx) {
    visit_real(y.dtype(), "normalize_rows", [&]<class T>() {
        const std::int64_t cols = y.dim(1);
        const T *unit = y.data<T>(), *inverse = inverse_norm.data<T>(), *g = dy.data<T>();
        T* d = dx.data<T>();
        parallel_for(y.dim(0), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> u(unit + r * cols, cols),
                    v(g + r * cols, cols);
                const T along = (u * v).sum();
                Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(d + r * cols, cols) = (v - u * along) * inverse[r];
            }
        });
    });
}

inline void softmax_cross_entropy(Context&, const Tensor& logits, const Tensor& labels, const Tensor& loss,
                                  const Tensor& log_sum_exp) {
    visit_real(logits.dtype(), "softmax_cross_entropy", [&]<class T>() {
        const std::int64_t cols = logits.dim(1);
        const T* z = logits.data<T>();
        const std::int64_t* y = labels.data<std::int64_t>();
        T *l = loss.data<T>(), *lse = log_sum_exp.data<T>();
        parallel_for(logits.dim(0), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> row(z + r * cols, cols);
                const T top = row.maxCoeff();
                lse[r] = top + std::log((row - top).exp().sum());
                l[r] = lse[r] - row[y[r]];
            }
        });
    });
}

inline void softmax_cross_entropy_dx(Context&, const Tensor& logits, const Tensor& labels, const Tensor& log_sum_exp,
                                     const Tensor& dloss, const Tensor& dlogits) {
    visit_real(logits.dtype(), "softmax_cross_entropy", [&]<class T>() {
        const std::int64_t cols = logits.dim(1);
        const T *z = logits.data<T>(), *lse = log_sum_exp.data<T>(), *g = dloss.data<T>();
        const std::int64_t* y = labels.data<std::int64_t>();
        T* d = dlogits.data<T>();
        parallel_for(logits.dim(0), row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> row(z + r * cols, cols);
                Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(d + r * cols, cols) = (row - lse[r]).exp() * g[r];
                d[r * cols + y[r]] -= g[r];
            }
        });
    });
}

inline void contrastive_rows(Context&, double margin, std::int64_t self, const Tensor& labels,
                             const Tensor& memory_labels, const Tensor& cosines, const Tensor& loss) {
    visit_real(cosines.dtype(), "contrastive_pairs", [&]<class T>() {
        const std::int64_t rows = cosines.dim(0), cols = cosines.dim(1);
        const math::ContrastiveRows<T> f{1,
                                         static_cast<T>(margin),
                                         self,
                                         labels.data<std::int64_t>(),
                                         memory_labels.data<std::int64_t>(),
                                         cosines.data<T>(),
                                         loss.data<T>(),
                                         rows,
                                         cols};
        parallel_for(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) f.loss[r] += f.share(r, 0, 1);
        });
    });
}

inline void newest_rows(Context&, const Tensor& labels, std::int64_t first, const Tensor& newest) {
    const std::int64_t* label = labels.data<std::int64_t>();
    for (std::int64_t i = 0; i < labels.numel(); ++i) newest.data<std::int64_t>()[label[i]] = first + i;
}

inline void mix_prototypes(Context&, const math::PrototypeMix& rule, const Tensor& w, const Tensor& e,
                           const Tensor& newest, const Tensor& y) {
    visit_real(w.dtype(), "mix_prototypes", [&]<class T>() {
        using Row = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;
        const std::int64_t rows = w.dim(0), cols = w.dim(1);
        const math::MixPrototypes<T> f{1,           rule, w.data<T>(), e.data<T>(), newest.data<std::int64_t>(),
                                       y.data<T>(), rows, cols,        e.dim(0)};
        parallel_for(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Row from(f.w + r * cols, cols);
                Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> to(f.y + r * cols, cols);
                if (const T* memory = f.memory_of(r)) {
                    const Row past(memory, cols);
                    const auto by = rule.factors<T>(from.square().sum(), past.square().sum());
                    to = by.w * from + by.e * past;
                } else {
                    to = from;
                }
            }
        });
    });
}

inline void mix_prototypes_dw(Context&, const math::PrototypeMix& rule, const Tensor& w, const Tensor& newest,
                              const Tensor& dy, const Tensor& dw) {
    visit_real(w.dtype(), "mix_prototypes", [&]<class T>() {
        using Row = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;
        const std::int64_t rows = w.dim(0), cols = w.dim(1);
        const math::MixPrototypesGradient<T> f{
            1, rule, w.data<T>(), newest.data<std::int64_t>(), dy.data<T>(), dw.data<T>(), rows, cols};
        parallel_for(rows, row_grain(cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const Row from(f.w + r * cols, cols), g(f.dy + r * cols, cols);
                Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> to(f.dw + r * cols, cols);
                if (f.mixed(r)) {
                    const auto by = rule.gradient_factors<T>(from.square().sum(), (from * g).sum());
                    to = by.w * g + by.e * from;
                } else {
                    to = g;
                }
            }
        });
    });
}

}  // namespace bf::cpu
