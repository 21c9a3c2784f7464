#pragma once
#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include "bf/math/hard_classes.hpp"
#include "bf/math/margin.hpp"
#include "bf/ops/margin_head.hpp"
#include "bf/ops/shape.hpp"

namespace bf {

/// Rows that train the classifier beside the batch: a queue's compensated embeddings.
struct ClassifierMemory {
    Tensor embeddings;       ///< [Q, D]; undefined when this call adds no rows
    Tensor labels;           ///< [Q] i64: classes, or with several centers a row of W each, any of its class
    std::int64_t total = 0;  ///< rows counted in the classifier's mean over the whole step
};

struct MarginSoftmaxOptions {
    Margin margin{};
    std::int64_t batch_total = 0;  ///< rows of the whole step when it is cut into micro-batches; 0: the rows of e
    ClassifierMemory memory{};
    /// What the head is beside its margin, if it is given: margins of each row, hard classes, centers. Its state moves
    /// with each call.
    const MarginHead* head = nullptr;
    DType products = DType::f32;  ///< bf16: see ClassifierWeights::products
    /// Of logits that the CPU keeps for the gradients; those beyond are made again, a third of the products of a call
    /// that keeps none. The bits are the same.
    std::int64_t kept_bytes = usual_kept_bytes;
    /// CurricularFace's t, a scalar of w's dtype and device that begins at 0; undefined: another head. A call that
    /// records a graph moves it towards the batch's mean target cosine before it is used (math/hard_classes.hpp); the
    /// memory is judged by the same t. Wants the margin arcface.
    Tensor curricular_t{};
    std::int64_t centers = 1;  ///< rows of W a class: see ClassifierWeights
};

struct MarginSoftmaxResult {
    Var loss;                ///< L_enc: sum over the batch / batch_total, penalties of a head included; a scalar
    Tensor classifier_loss;  ///< L_cls: sum over batch and memory / (batch_total + memory.total); a scalar
    Tensor correct;          ///< batch rows whose own class has the largest cosine; a scalar
    Tensor target_rows;      ///< [B] i64 rows of W that stood for the labels: with one center the labels
};

/// Cosines [R] of rows x [R, D] with the W rows of their labels ([R] i64, global); 0 for labels outside
/// [class_begin, class_begin + K).
inline Tensor target_cosines(ClassifierRows& rows, const ClassifierWeights& weights) {
    const Device device = rows.x.device();
    const TensorOptions made{rows.x.dtype(), device};
    const Shape r{rows.count()};
    if (!rows.inverse_norm.defined()) {
        rows.inverse_norm = Tensor::empty(r, made);
        kernels(device).inverse_norms(context(device), rows.x, rows.inverse_norm);
    }
    if (weights.centers > 1) rows.target_rows = Tensor::empty(r, {DType::i64, device});
    const Tensor cosine = Tensor::empty(r, made);
    kernels(device).target_cosine(context(device), rows, weights, cosine);
    return cosine;
}

/// Statistics of rows x [R, D] (labels [R] i64, global) against W rows [class_begin, class_begin + K). cosine: of
/// target_cosines(), which is called where it is undefined.
inline ClassifierStatistics classifier_statistics(ClassifierRows& rows, const ClassifierWeights& weights,
                                                  const Tensor& cosine = {}) {
    const Device device = rows.x.device();
    const TensorOptions made{rows.x.dtype(), device};
    const Shape r{rows.count()};
    const ClassifierStatistics s{Tensor::empty(r, made), Tensor::empty(r, made),
                                 cosine.defined() ? cosine : target_cosines(rows, weights),
                                 rows.hard_above.defined() ? Tensor::empty(r, made) : Tensor()};
    kernels(device).classifier_statistics(context(device), rows, weights, s.largest, s.sum, s.plain);
    return s;
}

/// Joins the statistics of two disjoint ranges of classes (host memory).
inline ClassifierStatistics join_statistics(const ClassifierStatistics& a, const ClassifierStatistics& b) {
    ClassifierStatistics out{a.largest.clone(), a.sum.clone(), a.cosine.clone(),
                             a.plain.defined() ? a.plain.clone() : Tensor()};
    visit_real(a.sum.dtype(), "join_statistics", [&]<class T>() {
        for (std::int64_t i = 0; i < a.sum.numel(); ++i) {
            const T ma = a.largest.data<T>()[i], mb = b.largest.data<T>()[i], m = std::max(ma, mb);
            const auto scaled = [m](T largest, T sum) { return sum > T(0) ? sum * std::exp(largest - m) : T(0); };
            out.largest.data<T>()[i] = m;
            out.sum.data<T>()[i] = scaled(ma, a.sum.data<T>()[i]) + scaled(mb, b.sum.data<T>()[i]);
            out.cosine.data<T>()[i] += b.cosine.data<T>()[i];
            if (out.plain.defined()) out.plain.data<T>()[i] = std::max(a.plain.data<T>()[i], b.plain.data<T>()[i]);
        }
    });
    return out;
}

namespace detail {

/// Applies the margin and completes the rows; `loss` and `correct` are scalars: sums over the rows. A margin of the
/// field runs where the rows are; a user's functor runs on the host, with O(rows) copies from and to a device.
template <class MarginFunctor>
void finish_rows(ClassifierRows& rows, const ClassifierStatistics& s, double scale, const MarginFunctor& margin,
                 Tensor& loss, Tensor& correct) {
    const Device device = rows.x.device();
    const TensorOptions made{rows.x.dtype(), device};
    const Shape r{rows.count()};
    rows.target_logit = Tensor::empty(r, made);
    rows.slope = Tensor::empty(r, made);
    rows.log_sum_exp = Tensor::empty(r, made);
    if constexpr (std::is_same_v<MarginFunctor, Margin>) {
        loss = Tensor::empty({}, made);
        correct = Tensor::empty({}, made);
        kernels(device).margin_rows(context(device), margin, scale, rows, s, loss, correct);
    } else {
        ClassifierRows host = rows;
        const auto here = [](const Tensor& t) { return t.defined() ? t.to(cpu_device) : t; };
        host.target_logit = here(rows.target_logit);
        host.slope = here(rows.slope);
        host.log_sum_exp = here(rows.log_sum_exp);
        std::pair<double, double> sums;
        visit_real(made.dtype, "margin_softmax", [&]<class T>() {
            sums = margin_rows<T>(margin, scale, host, {here(s.largest), here(s.sum), here(s.cosine), here(s.plain)});
        });
        rows.target_logit = host.target_logit.to(device);
        rows.slope = host.slope.to(device);
        rows.log_sum_exp = host.log_sum_exp.to(device);
        loss = full({}, sums.first, made.dtype, device);
        correct = full({}, sums.second, made.dtype, device);
    }
}

/// CurricularFace's thresholds of rows from their target cosines, which move t unless rate is 0.
template <class MarginFunctor>
void find_hard_classes(ClassifierRows& rows, const Tensor& cosine, const MarginFunctor& margin, double rate,
                       const Tensor& t) {
    bool arcface = false;
    double m = 0;
    if constexpr (std::is_same_v<MarginFunctor, Margin>) {
        arcface = margin.kind == MarginKind::arcface;
        m = margin.m2;
    }
    BF_CHECK(arcface, "margin_softmax", "hard classes want the margin arcface; hint: curricular_t");
    BF_CHECK(t.numel() == 1 && t.dtype() == cosine.dtype() && t.device() == cosine.device(), "margin_softmax",
             "curricular_t; got ", t.str(), ", want one element of ", name_of(cosine.dtype()), " where W lies");
    rows.hard_above = empty_like(cosine);
    kernels(cosine.device()).hard_classes(context(cosine.device()), m, rate, cosine, t, rows.hard_above);
}

/// label_end: one more than the largest label.
inline void check_classifier_rows(const Tensor& x, const Tensor& labels, const Var& w, std::int64_t label_end,
                                  const char* what) {
    BF_CHECK(x.rank() == 2 && w.shape().rank() == 2 && x.dim(1) == w.shape()[1] && x.dtype() == w.value().dtype(),
             "margin_softmax", what, " does not fit the classifier; got ", x.str(), ", weight ", w.value().str());
    BF_CHECK(labels.shape() == Shape{x.dim(0)} && labels.dtype() == DType::i64, "margin_softmax", what, " labels; got ",
             labels.str(), ", want [", x.dim(0), "] i64");
    if (labels.device() != cpu_device) return;  // the loader checked them; looking again would wait for the device
    for (std::int64_t y : labels.span<std::int64_t>())
        BF_CHECK(y >= 0 && y < label_end, "margin_softmax", "label out of range; got ", y, ", want 0..", label_end - 1);
}

}  // namespace detail

/// Margin softmax of a batch with any margin functor (cosine -> MarginValue), and BroadFace's two gradients from one
/// fused pass: backward(loss) gives e the gradient of L_enc (batch only, W constant) and w the gradient of L_cls
/// (batch and memory, embeddings constant). Without memory both are the plain margin softmax. e [B, D] is not
/// normalised; w [K centers, D]; labels [B] i64. Of the logits the CPU holds at most options.kept_bytes, a GPU a tile:
/// see kernels/cpu_classifier.hpp.
template <class MarginFunctor>
MarginSoftmaxResult margin_softmax(const Var& e, const Var& w, const Tensor& labels, const MarginFunctor& margin,
                                   double scale, const MarginSoftmaxOptions& options) {
    const std::int64_t w_rows = w.shape()[0], centers = options.head ? options.head->rule().centers : options.centers;
    BF_CHECK(centers > 0 && w_rows % centers == 0, "margin_softmax", "centers; got ", centers, " for weight ",
             w.value().str());
    detail::check_classifier_rows(e.value(), labels, w, w_rows / centers, "batch");
    const Device device = w.value().device();
    const TensorOptions made{w.value().dtype(), device};
    const ClassifierMemory& memory = options.memory;
    const bool has_memory = memory.embeddings.defined() && memory.embeddings.dim(0) > 0;
    if (has_memory) detail::check_classifier_rows(memory.embeddings, memory.labels, w, w_rows, "memory");
    const std::int64_t batch_total = options.batch_total ? options.batch_total : e.shape()[0];
    constexpr bool own_functor = !std::is_same_v<MarginFunctor, Margin>;
    BF_CHECK(!options.head || !own_functor, "margin_softmax", "a head sets margins of a Margin; got another functor");
    BF_CHECK(e.shape()[0] > 0, "margin_softmax", "empty batch; got ", e.value().str());
    BF_CHECK(batch_total >= e.shape()[0] && memory.total >= (has_memory ? memory.embeddings.dim(0) : 0),
             "margin_softmax", "totals are smaller than the rows given; got batch_total ", batch_total,
             ", memory.total ", memory.total);

    ClassifierWeights weights{w.value(), Tensor::empty({w_rows}, made), 0, scale, options.products, centers};
    kernels(device).inverse_norms(context(device), weights.w, weights.inverse_norm);
    const double classifier_rows = static_cast<double>(batch_total + memory.total);
    std::vector<ClassifierRows> sets;
    std::int64_t room = device == cpu_device && will_record({e, w})
                            ? options.kept_bytes / static_cast<std::int64_t>(size_of(made.dtype))
                            : 0;
    const auto add_set = [&](const Tensor& x, const Tensor& y) {
        sets.push_back({.x = x, .inverse_norm = {}, .labels = y, .target_logit = {}, .slope = {}, .log_sum_exp = {}});
        const std::int64_t size = std::min(room, kept_size(x.dim(0), w_rows));
        if (size > 0) sets.back().kept = Tensor::empty({size}, made);
        room -= size;
    };
    add_set(e.value(), labels);
    if (has_memory) {
        Tensor y = memory.labels;
        if (centers > 1) {
            y = empty_like(memory.labels);
            kernels(device).class_labels(context(device), memory.labels, centers, y);
        }
        add_set(memory.embeddings, y);
    }
    MarginSoftmaxResult result;
    Tensor batch_loss, correct_in_memory;
    const auto scale_by = [&](double factor, const Tensor& x, double keep, const Tensor& y) {
        kernels(device).axpby(context(device), factor, x, keep, y);
    };
    const MarginHead* head = options.head && options.head->sets_margins() ? options.head : nullptr;
    const Tensor t = options.head ? options.head->curricular_t() : options.curricular_t;
    Tensor penalty;
    Tensor hard_shift;  // a copy: t may move before the gradients are asked for
    const auto finish = [&](ClassifierRows& rows, bool batch, Tensor& sum, Tensor& correct) {
        const Tensor cosine = target_cosines(rows, weights);
        if (t.defined()) {
            const bool moves = batch && will_record({e, w});
            detail::find_hard_classes(rows, cosine, margin, moves ? math::curricular_rate : 0, t);
            if (batch) hard_shift = t.clone();
            rows.hard_shift = hard_shift;
        }
        const ClassifierStatistics s = classifier_statistics(rows, weights, cosine);
        if constexpr (!own_functor)
            if (head) head->set_margins(margin, batch, rows);
        detail::finish_rows(rows, s, scale, margin, sum, correct);
        if constexpr (!own_functor)
            if (head && batch && head->radial()) penalty = head->set_radial(margin, scale, s.cosine, rows);
    };
    finish(sets[0], true, batch_loss, result.correct);
    result.target_rows = centers > 1 ? sets[0].target_rows : labels;
    result.classifier_loss = Tensor::empty({}, made);
    scale_by(1 / classifier_rows, batch_loss, 0, result.classifier_loss);
    if (has_memory) {
        Tensor memory_loss;
        finish(sets[1], false, memory_loss, correct_in_memory);
        scale_by(1 / classifier_rows, memory_loss, 1, result.classifier_loss);
    }
    Tensor loss = Tensor::empty({}, made);
    scale_by(1 / static_cast<double>(batch_total), batch_loss, 0, loss);
    if (penalty.defined()) scale_by(1 / static_cast<double>(batch_total), penalty, 1, loss);
    result.loss = record(loss, {e, w}, [=](const Tensor& seed) {
        if (e.requires_grad()) {
            Tensor dx = empty_like(e.value());
            kernels(device).classifier_dx(context(device), sets[0], 1 / static_cast<double>(batch_total), seed, weights,
                                          dx);
            if (sets[0].radial.defined())
                kernels(device).add_radial(context(device), sets[0], 1 / static_cast<double>(batch_total), seed, dx);
            e.accumulate(dx);
        }
        if (w.requires_grad()) {
            Tensor dw = empty_like(w.value());
            kernels(device).classifier_dw(context(device), sets.data(), static_cast<int>(sets.size()),
                                          1 / classifier_rows, seed, weights, dw);
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
