#pragma once
#include "bf/core/tensor.hpp"

namespace bf {

/// One set of rows that the classifier sees: the batch, or the queue.
struct ClassifierRows {
    Tensor x;             ///< [R, D] embeddings, not normalised
    Tensor inverse_norm;  ///< [R] 1 / |x|
    Tensor labels;        ///< [R] i64, global class numbers
    Tensor target_logit;  ///< [R] s phi(cos theta_y)
    Tensor slope;         ///< [R] d target_logit / d cos, divided by s
    Tensor log_sum_exp;   ///< [R] over all classes, target logit included

    std::int64_t count() const { return x.defined() ? x.dim(0) : 0; }
};

/// The classes that this call works on: rows [class_begin, class_begin + K) of the whole W.
struct ClassifierWeights {
    Tensor w;             ///< [K, D]
    Tensor inverse_norm;  ///< [K]
    std::int64_t class_begin = 0;
    double scale = 64;
};

}  // namespace bf
