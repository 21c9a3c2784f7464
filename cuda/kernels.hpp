#pragma once
#include "bf/kernels/table.hpp"

// The functions behind the CUDA table: one for each entry of KernelTable, under its name and with its contract
// (table.hpp). A tensor is on the context's GPU; work is queued on the backend's stream and nothing waits for it.

namespace bf::cuda {

using T = const Tensor&;

// pointwise.cu
void convert(Context&, T x, T y);
void fill(Context&, T y, double value);
void axpby(Context&, double alpha, T x, double beta, T y);
void unary(Context&, Unary, double a, double b, T x, T y);
void unary_dx(Context&, Unary, double a, double b, T x, T y, T dy, T dx);
void binary(Context&, Binary, T x, T z, T y);
void binary_dx(Context&, Binary, T x, T z, T dy, T dx);
void binary_dz(Context&, Binary, T x, T z, T dy, T dz);
void dropout(Context&, double p, std::uint64_t seed, std::uint64_t step, T x, T y);

// reduce.cu
void reduce(Context&, Reduce, std::int64_t outer, std::int64_t n, std::int64_t inner, T x, T y);
void reduce_dx(Context&, Reduce, std::int64_t outer, std::int64_t n, std::int64_t inner, T x, T y, T dy, T dx);

// gemm.cpp
void gemm(Context&, bool trans_a, bool trans_b, double alpha, T a, T b, double beta, T c);

// rows.cu
void broadcast_rows(Context&, T bias, T y);
void gather_rows(Context&, T x, T index, T y);
void scatter_add_rows(Context&, T dy, T index, T dx);
void normalize_rows(Context&, T x, T y, T inverse_norm);
void normalize_rows_dx(Context&, T y, T inverse_norm, T dy, T dx);
void softmax_cross_entropy(Context&, T logits, T labels, T loss, T log_sum_exp);
void softmax_cross_entropy_dx(Context&, T logits, T labels, T log_sum_exp, T dloss, T dlogits);
void contrastive_rows(Context&, double margin, std::int64_t self, T labels, T memory_labels, T cosines, T loss);
void newest_rows(Context&, T labels, std::int64_t first, T newest);
void mix_prototypes(Context&, const math::PrototypeMix&, T w, T e, T newest, T y);
void mix_prototypes_dw(Context&, const math::PrototypeMix&, T w, T newest, T dy, T dw);

// conv.cpp
void conv2d(Context&, const ConvGeometry&, ConvAlgorithm, T x, T w, T y);
void conv2d_dx(Context&, const ConvGeometry&, ConvAlgorithm, T dy, T w, T dx);
void conv2d_dw(Context&, const ConvGeometry&, ConvAlgorithm, T x, T dy, T dw);

// norm.cu
void batch_norm_train(Context&, T x, T gamma, T beta, double epsilon, T slope, T residual, T y, T mean, T inverse_std,
                      double momentum, T running_mean, T running_var);
void inverse_std(Context&, T variance, double epsilon, T y);
void batch_norm_eval(Context&, T x, T gamma, T beta, T mean, T inverse_std, T slope, T residual, T y);
void batch_norm_train_dx(Context&, T x, T dy, T gamma, T beta, T mean, T inverse_std, T slope, T dx, T dgamma, T dbeta,
                         T dslope);
void batch_norm_eval_dx(Context&, T x, T dy, T gamma, T beta, T mean, T inverse_std, T slope, T dx, T dgamma, T dbeta,
                        T dslope);
void prelu(Context&, T x, T slope, T y);
void prelu_dx(Context&, T x, T slope, T dy, T dx, T dslope);

// pool.cu
void max_pool(Context&, const PoolGeometry&, T x, T y, T index);
void max_pool_dx(Context&, const PoolGeometry&, T dy, T index, T dx);
void avg_pool(Context&, const PoolGeometry&, T x, T y);
void avg_pool_dx(Context&, const PoolGeometry&, T dy, T dx);

// classifier.cu
void inverse_norms(Context&, T x, T y);
void target_cosine(Context&, const ClassifierRows&, const ClassifierWeights&, T cosine);
void classifier_statistics(Context&, const ClassifierRows&, const ClassifierWeights&, T largest, T sum, T plain);
void class_labels(Context&, T rows, std::int64_t centers, T labels);
void hard_classes(Context&, double m, double rate, T cosine, T t, T above);
void margin_rows(Context&, const Margin&, double scale, const ClassifierRows&, const ClassifierStatistics&, T loss,
                 T correct);
void classifier_dw(Context&, const ClassifierRows* sets, int set_count, double row_weight, T seed,
                   const ClassifierWeights&, T dw);
void classifier_dx(Context&, const ClassifierRows&, double row_weight, T seed, const ClassifierWeights&, T dx);
void compensate(Context&, const math::Compensation&, T e, T then, T labels, T w, T out);

// margin_head.cu
void head_margins(Context&, const HeadRule&, const Margin&, bool batch, const ClassifierRows&, T norms, T calls);
void head_radial(Context&, const HeadRule&, const Margin&, double scale, const ClassifierRows&, T cosine, T penalty);
void add_radial(Context&, const ClassifierRows&, double row_weight, T seed, T dx);

// update.cu
void sum_squares(Context&, const std::vector<Tensor>& x, T out);
void clip_factors(Context&, const ClipLimits&, T squares, T factors, T norm);
void sgd(Context&, const math::SgdUpdate&, const std::vector<UpdateItem>&, T factors);
void adamw(Context&, const math::AdamWUpdate&, const std::vector<UpdateItem>&, T factors);

}  // namespace bf::cuda
