#pragma once
#include <algorithm>

#include "bf/ops/linalg.hpp"

namespace bf {

/// Past embeddings that a batch is paired with; no gradient flows into them.
struct PairMemory {
    Tensor embeddings;  ///< [Q, D] raw
    Tensor labels;      ///< [Q] i64
    /// The memory row that is row 0 of the batch, where the batch itself stands in it, in order: a row is not paired
    /// with itself. -1: the batch is not among them.
    std::int64_t self = -1;
};

struct ContrastiveOptions {
    double margin = 0.5;           ///< cosine above which a pair of two classes costs something
    double weight = 1;             ///< of the loss
    std::int64_t batch_total = 0;  ///< rows of the whole step when it is cut into micro-batches; 0: the rows of e
    std::int64_t block = 4096;     ///< memory rows at a time
};

/// Contrastive loss between a batch e [B, D] (not normalised; labels [B] i64) and a memory, on unit rows: the sum over
/// all pairs of 1 - cos within a class, cos between classes where it is above the margin, times weight / batch_total; a
/// scalar. Gradient to e alone, taken on the way: cosines [B, block] at a time are all that is held of the B x Q pairs.
/// Source: Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020.
inline Var contrastive_pairs(const Var& e, const Tensor& labels, const PairMemory& memory,
                             const ContrastiveOptions& options = {}) {
    const auto check_rows = [&](const Tensor& x, const Tensor& y, const char* what) {
        BF_CHECK(x.rank() == 2 && e.shape().rank() == 2 && x.dim(1) == e.shape()[1] && x.dtype() == e.value().dtype() &&
                     y.shape() == Shape{x.dim(0)} && y.dtype() == DType::i64,
                 "contrastive_pairs", what, " does not fit; got ", x.str(), ", labels ", y.str(), " for a batch ",
                 e.value().str());
    };
    check_rows(e.value(), labels, "batch");
    check_rows(memory.embeddings, memory.labels, "memory");
    const std::int64_t rows = e.shape()[0], dim = e.shape()[1], held = memory.embeddings.dim(0);
    BF_CHECK(memory.self < 0 || memory.self + rows <= held, "contrastive_pairs", "the batch is not in the memory; got ",
             rows, " rows from ", memory.self, " on, of ", held);
    BF_CHECK(options.block > 0 && (options.batch_total == 0 || options.batch_total >= rows), "contrastive_pairs",
             "block and batch_total; got ", options.block, " and ", options.batch_total, ", want a block, and 0 or ",
             rows, " and more");
    const Device device = e.value().device();
    const KernelTable& table = kernels(device);
    Context& ctx = context(device);
    const Var unit = normalize_rows(e);
    const TensorOptions made = unit.value().options();
    Tensor row_losses = Tensor::empty({rows}, made), sum = Tensor::empty({}, made), gradient;
    table.fill(ctx, row_losses, 0);
    if (unit.requires_grad()) {
        gradient = Tensor::empty({rows, dim}, made);
        table.fill(ctx, gradient, 0);
    }
    for (std::int64_t begin = 0; begin < held; begin += options.block) {
        const std::int64_t end = std::min(held, begin + options.block);
        Tensor past = Tensor::empty({end - begin, dim}, made), inverse = Tensor::empty({end - begin}, made);
        table.normalize_rows(ctx, memory.embeddings.rows(begin, end), past, inverse);
        const Tensor cosines = detail::product(false, true, unit.value(), past);
        const std::int64_t self = memory.self < 0 ? math::no_self : memory.self - begin;
        table.contrastive_rows(ctx, options.margin, self, labels, memory.labels.rows(begin, end), cosines, row_losses);
        if (gradient.defined()) table.gemm(ctx, false, false, 1, cosines, past, 1, gradient);
    }
    const double scale = options.weight / static_cast<double>(std::max<std::int64_t>(
                                              1, options.batch_total ? options.batch_total : rows));
    table.reduce(ctx, Reduce::sum, 1, rows, 1, row_losses, sum);
    Tensor loss = Tensor::empty({}, made);
    table.axpby(ctx, scale, sum, 0, loss);
    if (Trace* t = Trace::current())
        t->add({"contrastive_pairs",
                {e.value(), labels, memory.embeddings, memory.labels},
                loss,
                {{"margin", options.margin}, {"weight", options.weight}}});
    return record(loss, {unit}, [=, sink = unit.sink()](const Tensor& seed) {
        // the seed is a scalar of the device: a product with a matrix of one element multiplies by it
        Tensor dy = Tensor::empty({rows * dim, 1}, made);
        kernels(device).gemm(context(device), false, false, scale, gradient.reshape({rows * dim, 1}),
                             seed.reshape({1, 1}), 0, dy);
        sink.accumulate(dy.reshape({rows, dim}));
    });
}

/// Newest embeddings of classes: rows of a ring, and the number of each class's newest.
struct PrototypeMemory {
    Tensor embeddings;       ///< [Q, D] raw; row number s lies in slot s % Q
    Tensor newest;           ///< [K] i64 row number of each class's newest embedding; -1: none
    std::int64_t first = 0;  ///< rows with smaller numbers do not count any more
};

/// The classifier with prototypes of classes seen lately mixed in: row k of w [K, D] becomes (1 - lambda) w_k / |w_k| +
/// lambda e_k / |e_k|, e_k the newest embedding of the class; rows of other classes stay as they are. Gradient to w
/// alone. Memory: the result, and one more [K, D] in the backward pass where something else holds its gradient.
/// Source: Deng et al., "Variational Prototype Learning for Deep Face Recognition", CVPR 2021.
inline Var mix_prototypes(const Var& w, const PrototypeMemory& memory, double lambda = 0.15) {
    const Tensor& e = memory.embeddings;
    BF_CHECK(w.shape().rank() == 2 && e.rank() == 2 && e.dim(0) > 0 && e.dim(1) == w.shape()[1] &&
                 e.dtype() == w.value().dtype(),
             "mix_prototypes", "memory does not fit; got ", e.str(), ", weight ", w.value().str());
    BF_CHECK(memory.newest.shape() == Shape{w.shape()[0]} && memory.newest.dtype() == DType::i64, "mix_prototypes",
             "newest rows; got ", memory.newest.str(), ", want [", w.shape()[0], "] i64");
    BF_CHECK(lambda >= 0 && lambda < 1, "mix_prototypes", "lambda; got ", lambda, ", want 0 <= lambda < 1");
    const Device device = w.value().device();
    const math::PrototypeMix rule{lambda, memory.first};
    Tensor y = empty_like(w.value());
    kernels(device).mix_prototypes(context(device), rule, w.value(), e, memory.newest, y);
    if (Trace* t = Trace::current()) t->add({"mix_prototypes", {w.value(), e, memory.newest}, y, {{"lambda", lambda}}});
    return record(y, {w}, [w, rule, newest = memory.newest, device](const Tensor& dy) {
        const Tensor dw = dy.unique() ? dy : empty_like(dy);
        kernels(device).mix_prototypes_dw(context(device), rule, w.value(), newest, dy, dw);
        w.accumulate(dw);
    });
}

}  // namespace bf
