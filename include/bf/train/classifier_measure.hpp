#pragma once
#include <algorithm>
#include <cmath>
#include <numbers>

#include "bf/ops/margin_softmax.hpp"
#include "bf/optim/optimizer.hpp"

namespace bf {

/// How good a classifier W is for embeddings that stand still.
struct ClassifierMeasure {
    std::int64_t images = 0;
    double loss = 0;            ///< L(W): mean over all images, with the margin
    double loss_no_margin = 0;  ///< the same of plain normalised softmax of that scale
    double accuracy = 0;        ///< share of images whose own class has the largest cosine
    double gradient_norm = 0;   ///< |dL/dW|, Frobenius
    double across_norm = 0;     ///< of its part orthogonal to each row of W: what can turn a row
    double turning_norm = 0;    ///< the same with each row of W at length 1, so that runs with other lengths compare
    double least_loss = 0;      ///< the smallest L that the steps below found
    double excess_loss = 0;     ///< loss - least_loss, 0 or more; a lower bound of the true excess
    double turning_norm_at_least = 0;  ///< turning_norm where least_loss was found: how far the steps came
};

struct ClassifierMeasureOptions {
    Margin margin{};
    std::int64_t steps = 100;            ///< full-batch steps on W alone
    double angle = 0.1;                  ///< radians that a row turns by in the first steps, about; falls as a cosine
    std::int64_t rows_per_pass = 65536;  ///< images in one call of the margin softmax
    std::int64_t kept_bytes = usual_kept_bytes;  ///< see MarginSoftmaxOptions::kept_bytes
};

namespace detail {

/// Mean loss of all rows and the number of correct ones; with a gradient, w has it afterwards.
struct ClassifierPass {
    double loss = 0, correct = 0;
};
inline ClassifierPass classifier_pass(const Tensor& e, const Tensor& labels, const Var& w, const Margin& margin,
                                      const ClassifierMeasureOptions& options) {
    ClassifierPass sums;
    w.zero_grad();
    for (std::int64_t begin = 0; begin < e.dim(0); begin += options.rows_per_pass) {
        const std::int64_t end = std::min(e.dim(0), begin + options.rows_per_pass);
        const MarginSoftmaxResult r =
            margin_softmax(Var(e.rows(begin, end)), w, labels.rows(begin, end),
                           {.margin = margin, .batch_total = e.dim(0), .kept_bytes = options.kept_bytes});
        if (w.requires_grad()) backward(r.loss);
        sums.loss += r.loss.value().to(cpu_device).item();
        sums.correct += r.correct.to(cpu_device).item();
    }
    return sums;
}

/// Norms of a gradient g of w, both [K, D].
struct GradientNorms {
    double all = 0, across = 0, turning = 0;
};
inline GradientNorms gradient_norms(const Tensor& gradient, const Tensor& weight) {
    const Tensor g = gradient.to(cpu_device), w = weight.to(cpu_device);
    GradientNorms squares;
    visit_real(w.dtype(), "measure_classifier", [&]<class T>() {
        for (std::int64_t k = 0; k < w.dim(0); ++k) {
            const T *gk = g.data<T>() + k * g.dim(1), *wk = w.data<T>() + k * w.dim(1);
            double gg = 0, gw = 0, ww = 0;
            for (std::int64_t d = 0; d < w.dim(1); ++d) {
                gg += static_cast<double>(gk[d]) * static_cast<double>(gk[d]);
                gw += static_cast<double>(gk[d]) * static_cast<double>(wk[d]);
                ww += static_cast<double>(wk[d]) * static_cast<double>(wk[d]);
            }
            const double across = std::max(0.0, gg - (ww > 0 ? gw * gw / ww : 0));
            squares.all += gg;
            squares.across += across;
            squares.turning += across * ww;  // the loss sees the direction of a row alone: its gradient goes as 1 / |w|
        }
    });
    return {std::sqrt(squares.all), std::sqrt(squares.across), std::sqrt(squares.turning)};
}

}  // namespace detail

/// Measures the classifier w [K, D] on embeddings e [N, D] with labels [N] i64, all on one device and left as they are.
/// The smallest loss is looked for from w on by AdamW (beta2 0.99, no decay) on unit rows, which are made unit rows
/// again after each of the steps, with lr = angle / sqrt(D) (1 + cos(pi t / steps)) / 2; the best W on the way counts.
/// The derivative of the margin is the exact one, whatever the run trained with. progress(step) is called after each
/// step; what it throws ends the work.
template <class Progress>
ClassifierMeasure measure_classifier(const Tensor& e, const Tensor& labels, const Tensor& w,
                                     const ClassifierMeasureOptions& options, Progress&& progress) {
    BF_CHECK(options.steps >= 0 && options.angle > 0 && options.rows_per_pass > 0, "measure_classifier",
             "options; got steps ", options.steps, ", angle ", options.angle, ", rows_per_pass ",
             options.rows_per_pass);
    BF_CHECK(e.rank() == 2 && e.dim(0) > 0, "measure_classifier", "no images; got ", e.str());
    Margin margin = options.margin;
    margin.gradient = MarginGradient::exact;
    ClassifierMeasure m{.images = e.dim(0)};
    const Var as_trained = Var::leaf(w.clone());
    const auto first = detail::classifier_pass(e, labels, as_trained, margin, options);
    m.loss = first.loss;
    m.accuracy = first.correct / static_cast<double>(m.images);
    m.loss_no_margin = detail::classifier_pass(e, labels, Var(w), normalized_softmax(margin.scale), options).loss;
    const auto norms = detail::gradient_norms(as_trained.grad(), w);
    m.gradient_norm = norms.all;
    m.across_norm = norms.across;
    m.turning_norm = norms.turning;
    m.least_loss = m.loss;
    m.turning_norm_at_least = m.turning_norm;

    const Tensor unit = Tensor::empty(w.shape(), w.options()), inverse = Tensor::empty({w.dim(0)}, w.options());
    const auto make_unit = [&](const Tensor& rows) {
        kernels(w.device()).normalize_rows(context(w.device()), rows, unit, inverse);
        rows.copy_from(unit);
    };
    const Var moving = Var::leaf(w.clone());
    make_unit(moving.value());
    AdamW adam({{.parameters = {Parameter{"classifier.weight", moving}}}}, {.beta2 = 0.99});
    for (std::int64_t t = 0; t <= options.steps; ++t) {
        const double loss = detail::classifier_pass(e, labels, moving, margin, options).loss;
        if (loss < m.least_loss) {
            m.least_loss = loss;
            m.turning_norm_at_least = detail::gradient_norms(moving.grad(), moving.value()).turning;
        }
        if (t == options.steps) break;
        const double share = static_cast<double>(t) / static_cast<double>(options.steps);
        adam.step(options.angle / std::sqrt(static_cast<double>(w.dim(1))) * 0.5 *
                  (1 + std::cos(std::numbers::pi * share)));
        make_unit(moving.value());
        progress(t + 1);
    }
    m.excess_loss = m.loss - m.least_loss;
    return m;
}
inline ClassifierMeasure measure_classifier(const Tensor& e, const Tensor& labels, const Tensor& w,
                                            const ClassifierMeasureOptions& options = {}) {
    return measure_classifier(e, labels, w, options, [](std::int64_t) {});
}

}  // namespace bf
