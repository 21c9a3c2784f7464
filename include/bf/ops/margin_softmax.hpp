#pragma once
#include <algorithm>
#include <cmath>

#include "bf/math/margin.hpp"
#include "bf/ops/shape.hpp"

namespace bf {

/// Rows that train the classifier beside the batch: a queue's compensated embeddings.
struct ClassifierMemory {
    Tensor embeddings;       ///< [Q, D]; undefined when this call adds no rows
    Tensor labels;           ///< [Q] i64
    std::int64_t total = 0;  ///< rows counted in the classifier's mean over the whole step
};

struct MarginSoftmaxOptions {
    Margin margin{};
    std::int64_t batch_total = 0;  ///< rows of the whole step when it is cut into micro-batches; 0: the rows of e
    ClassifierMemory memory{};
};

struct MarginSoftmaxResult {
    Var loss;                ///< L_enc: sum over the batch / batch_total; a scalar
    Tensor classifier_loss;  ///< L_cls: sum over batch and memory / (batch_total + memory.total); a scalar
    Tensor correct;          ///< batch rows whose own class has the largest cosine; a scalar
};

/// Row statistics over a range of classes: shards of W join by reduction (join_statistics).
struct ClassifierStatistics {
    Tensor largest;  ///< [R] largest logit of the classes other than the label
    Tensor sum;      ///< [R] sum of exp(logit - largest) over them
    Tensor cosine;   ///< [R] cosine with the label's row; 0 where the label lies outside the range
};

/// Statistics of rows x [R, D] (labels [R] i64, global) against W rows [class_begin, class_begin + K).
inline ClassifierStatistics classifier_statistics(ClassifierRows& rows, const ClassifierWeights& weights) {
    const Device device = rows.x.device();
    const TensorOptions made{rows.x.dtype(), device};
    const Shape r{rows.count()};
    if (!rows.inverse_norm.defined()) {
        rows.inverse_norm = Tensor::empty(r, made);
        kernels(device).inverse_norms(context(device), rows.x, rows.inverse_norm);
    }
    ClassifierStatistics s{Tensor::empty(r, made), Tensor::empty(r, made), Tensor::empty(r, made)};
    kernels(device).classifier_statistics(context(device), rows, weights, s.largest, s.sum);
    kernels(device).target_cosine(context(device), rows, weights, s.cosine);
    return s;
}

/// Joins the statistics of two disjoint ranges of classes (host memory).
inline ClassifierStatistics join_statistics(const ClassifierStatistics& a, const ClassifierStatistics& b) {
    ClassifierStatistics out{a.largest.clone(), a.sum.clone(), a.cosine.clone()};
    visit_real(a.sum.dtype(), "join_statistics", [&]<class T>() {
        for (std::int64_t i = 0; i < a.sum.numel(); ++i) {
            const T ma = a.largest.data<T>()[i], mb = b.largest.data<T>()[i], m = std::max(ma, mb);
            const auto scaled = [m](T largest, T sum) { return sum > T(0) ? sum * std::exp(largest - m) : T(0); };
            out.largest.data<T>()[i] = m;
            out.sum.data<T>()[i] = scaled(ma, a.sum.data<T>()[i]) + scaled(mb, b.sum.data<T>()[i]);
            out.cosine.data<T>()[i] += b.cosine.data<T>()[i];
        }
    });
    return out;
}

namespace detail {

/// Applies the margin and completes the rows; returns the sum of the row losses, counts correct rows.
template <class MarginFunctor>
double finish_rows(ClassifierRows& rows, const ClassifierStatistics& s, double scale, const MarginFunctor& margin,
                   double* correct) {
    const TensorOptions made{rows.x.dtype(), rows.x.device()};
    const Shape r{rows.count()};
    rows.target_logit = Tensor::empty(r, made);
    rows.slope = Tensor::empty(r, made);
    rows.log_sum_exp = Tensor::empty(r, made);
    double loss = 0;
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const T *top = s.largest.data<T>(), *sum = s.sum.data<T>(), *cosine = s.cosine.data<T>();
        for (std::int64_t i = 0; i < rows.count(); ++i) {
            const auto v = margin(std::clamp(cosine[i], T(-1), T(1)));
            const T z = static_cast<T>(scale) * static_cast<T>(v.phi);
            const T m = std::max(z, top[i]);
            const T lse = m + std::log(std::exp(z - m) + (sum[i] > T(0) ? sum[i] * std::exp(top[i] - m) : T(0)));
            rows.target_logit.data<T>()[i] = z;
            rows.slope.data<T>()[i] = static_cast<T>(v.slope);
            rows.log_sum_exp.data<T>()[i] = lse;
            loss += static_cast<double>(lse - z);
            if (correct && static_cast<T>(scale) * cosine[i] > top[i]) *correct += 1;
        }
    });
    return loss;
}

inline void check_classifier_rows(const Tensor& x, const Tensor& labels, const Var& w, const char* what) {
    BF_CHECK(x.rank() == 2 && w.shape().rank() == 2 && x.dim(1) == w.shape()[1] && x.dtype() == w.value().dtype(),
             "margin_softmax", what, " does not fit the classifier; got ", x.str(), ", weight ", w.value().str());
    BF_CHECK(labels.shape() == Shape{x.dim(0)} && labels.dtype() == DType::i64, "margin_softmax", what, " labels; got ",
             labels.str(), ", want [", x.dim(0), "] i64");
    for (std::int64_t y : labels.span<std::int64_t>())
        BF_CHECK(y >= 0 && y < w.shape()[0], "margin_softmax", "label out of range; got ", y, ", want 0..",
                 w.shape()[0] - 1);
}

}  // namespace detail

/// Margin softmax of a batch with any margin functor (cosine -> MarginValue), and BroadFace's two gradients from one
/// fused pass: backward(loss) gives e the gradient of L_enc (batch only, W constant) and w the gradient of L_cls
/// (batch and memory, embeddings constant). Without memory both are the plain margin softmax. e [B, D] is not
/// normalised; w [K, D]; labels [B] i64. The logits are never held: see kernels/cpu_classifier.hpp.
template <class MarginFunctor>
MarginSoftmaxResult margin_softmax(const Var& e, const Var& w, const Tensor& labels, const MarginFunctor& margin,
                                   double scale, const MarginSoftmaxOptions& options) {
    detail::check_classifier_rows(e.value(), labels, w, "batch");
    const Device device = w.value().device();
    const TensorOptions made{w.value().dtype(), device};
    const ClassifierMemory& memory = options.memory;
    const bool has_memory = memory.embeddings.defined() && memory.embeddings.dim(0) > 0;
    if (has_memory) detail::check_classifier_rows(memory.embeddings, memory.labels, w, "memory");
    const std::int64_t batch_total = options.batch_total ? options.batch_total : e.shape()[0];
    BF_CHECK(e.shape()[0] > 0, "margin_softmax", "empty batch; got ", e.value().str());
    BF_CHECK(batch_total >= e.shape()[0] && memory.total >= (has_memory ? memory.embeddings.dim(0) : 0),
             "margin_softmax", "totals are smaller than the rows given; got batch_total ", batch_total,
             ", memory.total ", memory.total);

    ClassifierWeights weights{w.value(), Tensor::empty({w.shape()[0]}, made), 0, scale};
    kernels(device).inverse_norms(context(device), weights.w, weights.inverse_norm);
    const double classifier_rows = static_cast<double>(batch_total + memory.total);
    double correct = 0, sum = 0;
    std::vector<ClassifierRows> sets;
    sets.push_back(
        {.x = e.value(), .inverse_norm = {}, .labels = labels, .target_logit = {}, .slope = {}, .log_sum_exp = {}});
    if (has_memory)
        sets.push_back({.x = memory.embeddings,
                        .inverse_norm = {},
                        .labels = memory.labels,
                        .target_logit = {},
                        .slope = {},
                        .log_sum_exp = {}});
    double batch_sum = 0;
    for (ClassifierRows& rows : sets) {
        const ClassifierStatistics s = classifier_statistics(rows, weights);
        sum += detail::finish_rows(rows, s, scale, margin, &rows == &sets.front() ? &correct : nullptr);
        if (&rows == &sets.front()) batch_sum = sum;
    }
    const Tensor loss = full({}, batch_sum / static_cast<double>(batch_total), made.dtype);
    MarginSoftmaxResult result;
    result.classifier_loss = full({}, sum / classifier_rows, made.dtype);
    result.correct = full({}, correct, made.dtype);
    result.loss = record(loss, {e, w}, [=](const Tensor& dy) {
        const double seed = dy.item();
        if (e.requires_grad()) {
            Tensor dx = empty_like(e.value());
            kernels(device).classifier_dx(context(device), sets[0], seed / static_cast<double>(batch_total), weights,
                                          dx);
            e.accumulate(dx);
        }
        if (w.requires_grad()) {
            Tensor dw = empty_like(w.value());
            kernels(device).fill(context(device), dw, 0);
            kernels(device).classifier_dw(context(device), sets.data(), static_cast<int>(sets.size()),
                                          seed / classifier_rows, weights, dw);
            w.accumulate(dw);
        }
    });
    return result;
}

/// The same with one of the field's margins.
inline MarginSoftmaxResult margin_softmax(const Var& e, const Var& w, const Tensor& labels,
                                          const MarginSoftmaxOptions& options) {
    return margin_softmax(e, w, labels, options.margin, options.margin.scale, options);
}

}  // namespace bf
