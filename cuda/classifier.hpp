#pragma once
#include "runtime.hpp"

// The entries of KernelTable for the fused classifier; see bf/kernels/cpu_classifier.hpp for what each does.

namespace bf::cuda {

void inverse_norms(Context& context, const Tensor& x, const Tensor& y);
void target_cosine(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                   const Tensor& cosine);
void classifier_statistics(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                           const Tensor& largest, const Tensor& sum);
void margin_rows(Context& context, const Margin& margin, double scale, const ClassifierRows& rows,
                 const ClassifierStatistics& statistics, const Tensor& loss, const Tensor& correct);
void classifier_dw(Context& context, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
                   const ClassifierWeights& weights, const Tensor& dw);
void classifier_dx(Context& context, const ClassifierRows& rows, double row_weight, const Tensor& seed,
                   const ClassifierWeights& weights, const Tensor& dx);
void compensate(Context& context, const math::Compensation& rule, const Tensor& e, const Tensor& then,
                const Tensor& labels, const Tensor& w, const Tensor& out);

}  // namespace bf::cuda
