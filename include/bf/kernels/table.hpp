#pragma once
#include "bf/core/tensor.hpp"
#include "bf/kernels/classifier.hpp"
#include "bf/kernels/context.hpp"
#include "bf/kernels/conv.hpp"
#include "bf/kernels/update.hpp"
#include "bf/math/compensation.hpp"
#include "bf/math/memory.hpp"
#include "bf/math/pointwise.hpp"
#include "bf/math/reduce.hpp"
#include "bf/math/update.hpp"

namespace bf {

/// Window of a pooling op over an image.
struct PoolGeometry {
    std::int64_t n, c, h, w, kernel_h, kernel_w, stride, pad;
    std::int64_t h_out() const { return (h + 2 * pad - kernel_h) / stride + 1; }
    std::int64_t w_out() const { return (w + 2 * pad - kernel_w) / stride + 1; }
};

/// The only seam to a backend: one function pointer a kernel. Outputs are overwritten unless said otherwise; shapes
/// and dtypes were checked by the op. "Rows" means Tensor::channel_rows(): the tensor as [M, C].
struct KernelTable {
    using T = const Tensor&;

    // pointwise and copies
    void (*convert)(Context&, T x, T y);  ///< y = x in y's dtype and format
    void (*fill)(Context&, T y, double value);
    void (*axpby)(Context&, double alpha, T x, double beta, T y);  ///< y = alpha x + beta y
    void (*unary)(Context&, Unary, double a, double b, T x, T y);
    void (*unary_dx)(Context&, Unary, double a, double b, T x, T y, T dy, T dx);
    void (*binary)(Context&, Binary, T x, T z, T y);
    void (*binary_dx)(Context&, Binary, T x, T z, T dy, T dx);  ///< gradient of the first operand
    void (*binary_dz)(Context&, Binary, T x, T z, T dy, T dz);  ///< gradient of the second operand
    void (*dropout)(Context&, double p, std::uint64_t seed, std::uint64_t step, T x, T y);
    // x is [outer, n, inner], y is [outer, inner]
    void (*reduce)(Context&, Reduce, std::int64_t outer, std::int64_t n, std::int64_t inner, T x, T y);
    void (*reduce_dx)(Context&, Reduce, std::int64_t outer, std::int64_t n, std::int64_t inner, T x, T y, T dy, T dx);

    // matrices and rows
    void (*gemm)(Context&, bool trans_a, bool trans_b, double alpha, T a, T b, double beta, T c);
    void (*broadcast_rows)(Context&, T bias, T y);               ///< every row of y [M, C] = bias [C]
    void (*gather_rows)(Context&, T x, T index, T y);            ///< y[i] = x[index[i]]
    void (*scatter_add_rows)(Context&, T dy, T index, T dx);     ///< dx[index[i]] += dy[i], in order of i
    void (*normalize_rows)(Context&, T x, T y, T inverse_norm);  ///< y = x / max(|x|, 1e-12) over rows [M, D]
    void (*normalize_rows_dx)(Context&, T y, T inverse_norm, T dy, T dx);
    void (*softmax_cross_entropy)(Context&, T logits, T labels, T loss, T log_sum_exp);  ///< row by row
    void (*softmax_cross_entropy_dx)(Context&, T logits, T labels, T log_sum_exp, T dloss, T dlogits);

    // memories of past embeddings (math/memory.hpp)
    void (*contrastive_rows)(Context&, double margin, std::int64_t self, T labels, T memory_labels, T cosines,
                             T loss);  ///< cosines [B, n] become slopes; loss [B] += the row's pairs, itself left out
    void (*newest_rows)(Context&, T labels, std::int64_t first, T newest);  ///< newest[labels[i]] = first + i, in order
    void (*mix_prototypes)(Context&, const math::PrototypeMix&, T w, T e, T newest, T y);
    void (*mix_prototypes_dw)(Context&, const math::PrototypeMix&, T w, T newest, T dy, T dw);  ///< dw may be dy

    // images
    void (*conv2d)(Context&, const ConvGeometry&, ConvAlgorithm, T x, T w, T y);
    void (*conv2d_dx)(Context&, const ConvGeometry&, ConvAlgorithm, T dy, T w, T dx);
    void (*conv2d_dw)(Context&, const ConvGeometry&, ConvAlgorithm, T x, T dy, T dw);
    // batch norm v, and in the same pass y = prelu(v) where slope [C] is defined, v + residual where that is, else v;
    // dx takes dy of y and gives dslope where there is a slope. At most one of the two is defined.
    void (*batch_norm_train)(Context&, T x, T gamma, T beta, double epsilon, T slope, T residual, T y, T mean,
                             T inverse_std, double momentum, T running_mean, T running_var);
    void (*inverse_std)(Context&, T variance, double epsilon, T y);  ///< y = 1 / sqrt(variance + epsilon)
    void (*batch_norm_eval)(Context&, T x, T gamma, T beta, T mean, T inverse_std, T slope, T residual, T y);
    void (*batch_norm_train_dx)(Context&, T x, T dy, T gamma, T beta, T mean, T inverse_std, T slope, T dx, T dgamma,
                                T dbeta, T dslope);
    void (*batch_norm_eval_dx)(Context&, T x, T dy, T gamma, T beta, T mean, T inverse_std, T slope, T dx, T dgamma,
                               T dbeta, T dslope);
    void (*prelu)(Context&, T x, T slope, T y);
    void (*prelu_dx)(Context&, T x, T slope, T dy, T dx, T dslope);
    void (*max_pool)(Context&, const PoolGeometry&, T x, T y, T index);  ///< index: i64 position in the image plane
    void (*max_pool_dx)(Context&, const PoolGeometry&, T dy, T index, T dx);
    void (*avg_pool)(Context&, const PoolGeometry&, T x, T y);  ///< padding counts as zeros
    void (*avg_pool_dx)(Context&, const PoolGeometry&, T dy, T dx);

    // the fused classifier (see cpu_classifier.hpp for each)
    void (*inverse_norms)(Context&, T x, T y);
    void (*target_cosine)(Context&, const ClassifierRows&, const ClassifierWeights&, T cosine);
    void (*classifier_statistics)(Context&, const ClassifierRows&, const ClassifierWeights&, T largest, T sum,
                                  T plain);  ///< plain: may be undefined
    void (*hard_classes)(Context&, double m, double rate, T cosine, T t, T above);
    void (*class_labels)(Context&, T rows, std::int64_t centers, T labels);
    void (*margin_rows)(Context&, const Margin&, double scale, const ClassifierRows&, const ClassifierStatistics&,
                        T loss, T correct);  ///< completes the rows; loss, correct: scalars, sums over the rows
    // a head that sets a margin for each row: rows.m2 and rows.m3 from norms [2] f64 (mean, std) and calls [1] i64,
    // which a batch moves first
    void (*head_margins)(Context&, const HeadRule&, const Margin&, bool batch, const ClassifierRows&, T norms, T calls);
    void (*head_radial)(Context&, const HeadRule&, const Margin&, double scale, const ClassifierRows&, T cosine,
                        T penalty);  ///< rows.radial of completed rows; penalty: a scalar, its sum over the rows
    // seed: a scalar that multiplies row_weight; it is read on the device
    void (*classifier_dw)(Context&, const ClassifierRows* sets, int set_count, double row_weight, T seed,
                          const ClassifierWeights&, T dw);
    void (*classifier_dx)(Context&, const ClassifierRows&, double row_weight, T seed, const ClassifierWeights&, T dx);
    void (*add_radial)(Context&, const ClassifierRows&, double row_weight, T seed, T dx);  ///< dx += of rows.radial
    void (*compensate)(Context&, const math::Compensation&, T e, T then, T labels, T w, T out);

    // update rules over all parameters at once. Factors [groups] f64 multiply the gradients of a group; where one is
    // not a number, nothing of that group is written.
    void (*sum_squares)(Context&, const std::vector<Tensor>& x, T out);               ///< out: one f64 element
    void (*clip_factors)(Context&, const ClipLimits&, T squares, T factors, T norm);  ///< squares [groups]; all f64
    void (*sgd)(Context&, const math::SgdUpdate&, const std::vector<UpdateItem>&, T factors);
    void (*adamw)(Context&, const math::AdamWUpdate&, const std::vector<UpdateItem>&, T factors);
};

/// entry(name) for each kernel: from this list tables are filled and wrapped.
// clang-format off
#define BF_POINTWISE_KERNELS(entry) \
    entry(convert) entry(fill) entry(axpby) entry(unary) entry(unary_dx) entry(binary) entry(binary_dx) \
    entry(binary_dz) entry(dropout) entry(reduce) entry(reduce_dx)
#define BF_MATRIX_KERNELS(entry) \
    entry(gemm) entry(broadcast_rows) entry(gather_rows) entry(scatter_add_rows) entry(normalize_rows) \
    entry(normalize_rows_dx) entry(softmax_cross_entropy) entry(softmax_cross_entropy_dx) entry(contrastive_rows) \
    entry(newest_rows) entry(mix_prototypes) entry(mix_prototypes_dw)
#define BF_CONV_KERNELS(entry) entry(conv2d) entry(conv2d_dx) entry(conv2d_dw)
#define BF_NORM_KERNELS(entry) \
    entry(batch_norm_train) entry(inverse_std) entry(batch_norm_eval) entry(batch_norm_train_dx) \
    entry(batch_norm_eval_dx) entry(prelu) entry(prelu_dx)
#define BF_POOL_KERNELS(entry) entry(max_pool) entry(max_pool_dx) entry(avg_pool) entry(avg_pool_dx)
#define BF_CLASSIFIER_KERNELS(entry) \
    entry(inverse_norms) entry(target_cosine) entry(classifier_statistics) entry(hard_classes) entry(class_labels) \
    entry(margin_rows) entry(head_margins) entry(head_radial) entry(classifier_dw) entry(classifier_dx) \
    entry(add_radial) entry(compensate)
#define BF_UPDATE_KERNELS(entry) entry(sum_squares) entry(clip_factors) entry(sgd) entry(adamw)
#define BF_KERNELS(entry) \
    BF_POINTWISE_KERNELS(entry) BF_MATRIX_KERNELS(entry) BF_CONV_KERNELS(entry) BF_NORM_KERNELS(entry) \
    BF_POOL_KERNELS(entry) BF_CLASSIFIER_KERNELS(entry) BF_UPDATE_KERNELS(entry)
// clang-format on

#define BF_COUNT(name) +1
static_assert(sizeof(KernelTable) == (0 BF_KERNELS(BF_COUNT)) * sizeof(void (*)()), "a kernel is not on the list");
#undef BF_COUNT

}  // namespace bf
