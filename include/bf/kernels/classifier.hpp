#pragma once
#include <utility>

#include "bf/core/tensor.hpp"
#include "bf/math/margin_head.hpp"
#include "bf/math/margin_row.hpp"

namespace bf {

/// One set of rows that the classifier sees: the batch, or the queue.
struct ClassifierRows {
    Tensor x;             ///< [R, D] embeddings, not normalised
    Tensor inverse_norm;  ///< [R] 1 / |x|
    Tensor labels;        ///< [R] i64, global class numbers
    Tensor target_logit;  ///< [R] s phi(cos theta_y)
    Tensor slope;         ///< [R] d target_logit / d cos, divided by s
    Tensor log_sum_exp;   ///< [R] over all classes, target logit included

    /// The CPU's logits of the first tiles of classes, which classifier_statistics leaves here for the gradients: as
    /// many as fit, in its own layout; undefined: none. See kept_size().
    Tensor kept{};

    // of a head that sets a margin for each row (head_margins); undefined: all rows have those of the Margin
    Tensor m2{}, m3{};  ///< [R]
    Tensor radial{};    ///< [R] d row loss / d|x|, where the head has one

    /// [R] i64 with several centers: the row of the whole W that target_cosine found nearest among those of the label;
    /// -1 outside the range of classes. Undefined with one.
    Tensor target_rows{};

    // CurricularFace (math/hard_classes.hpp); both undefined: no class is hard
    Tensor hard_above{};  ///< [R] cosine above which another class is hard
    Tensor hard_shift{};  ///< t, a scalar

    std::int64_t count() const { return x.defined() ? x.dim(0) : 0; }
};

/// Bytes of logits that one call of the margin softmax keeps between its passes where nobody says more.
inline constexpr std::int64_t usual_kept_bytes = 64 << 20;
/// Elements of `kept` with room for all logits of `rows` rows and `classes` classes, on any target.
inline std::int64_t kept_size(std::int64_t rows, std::int64_t classes) { return (rows + 31) / 32 * 32 * classes; }

/// The classes that this call works on: [class_begin, class_begin + K) of all. Class k has the rows
/// [k centers, (k + 1) centers) of the whole W, and its cosine is the largest of theirs (sub-center ArcFace, Deng et
/// al., ECCV 2020); gradients go to that row, the first of equal ones.
struct ClassifierWeights {
    Tensor w;             ///< [K centers, D]
    Tensor inverse_norm;  ///< [K centers]
    std::int64_t class_begin = 0;
    double scale = 64;
    /// Operands of the large products of a w in f32: with bf16 rows and gradients of logits are rounded to bf16 on
    /// their way into logits, dW and dx (sums in f32), on a GPU and on a CPU that multiplies pairs in bf16; everything
    /// else, and any other value, keeps the dtype of w.
    DType products = DType::f32;
    std::int64_t centers = 1;
};

/// Row statistics over a range of classes: shards of W join by reduction (ops/margin_softmax.hpp).
struct ClassifierStatistics {
    Tensor largest;  ///< [R] largest logit of the classes other than the label
    Tensor sum;      ///< [R] sum of exp(logit - largest) over them
    Tensor cosine;   ///< [R] cosine with the label's row; 0 where the label lies outside the range
    Tensor plain{};  ///< [R] largest s cos of the classes other than the label; undefined: it is `largest`
};

/// The margin of a row: that of all rows, or a Margin with the row's own m2 and m3.
template <class T, class MarginFunctor>
const MarginFunctor& own_margin(const MarginFunctor& margin, const ClassifierRows&, std::int64_t) {
    return margin;
}
template <class T>
Margin own_margin(const Margin& margin, const ClassifierRows& rows, std::int64_t row) {
    if (!rows.m2.defined()) return margin;
    return margin.with(static_cast<double>(rows.m2.data<T>()[row]), static_cast<double>(rows.m3.data<T>()[row]));
}

/// On the host, with any margin functor: fills target_logit, slope and log_sum_exp of the rows; gives the sum of the
/// row losses and the number of rows whose own class has the largest cosine.
template <class T, class MarginFunctor>
std::pair<double, double> margin_rows(const MarginFunctor& margin, double scale, const ClassifierRows& rows,
                                      const ClassifierStatistics& s) {
    const T *largest = s.largest.data<T>(), *sum = s.sum.data<T>(), *cosine = s.cosine.data<T>(),
            *plain = s.plain.defined() ? s.plain.data<T>() : largest;
    double loss = 0, correct = 0;
    for (std::int64_t i = 0; i < rows.count(); ++i) {
        const auto row =
            math::margin_row(own_margin<T>(margin, rows, i), static_cast<T>(scale), largest[i], sum[i], cosine[i]);
        rows.target_logit.data<T>()[i] = row.target_logit;
        rows.slope.data<T>()[i] = row.slope;
        rows.log_sum_exp.data<T>()[i] = row.log_sum_exp;
        loss += static_cast<double>(row.loss());
        correct += static_cast<T>(scale) * cosine[i] > plain[i] ? 1 : 0;
    }
    return {loss, correct};
}

}  // namespace bf
