#pragma once
#include "bf/kernels/cpu_classifier.hpp"
#include "bf/kernels/cpu_conv.hpp"
#include "bf/kernels/cpu_matrix.hpp"
#include "bf/kernels/cpu_norm.hpp"
#include "bf/kernels/cpu_pointwise.hpp"
#include "bf/kernels/cpu_pool.hpp"
#include "bf/kernels/cpu_update.hpp"
#include "bf/kernels/dispatch.hpp"

#ifdef BF_COMPILED_CPU
#define BF_TABLE_INLINE
#else
#define BF_TABLE_INLINE inline
#endif

namespace bf {

const KernelTable& cpu_table();

BF_TABLE_INLINE const KernelTable& cpu_table() {
    static const KernelTable table{
        .convert = cpu::convert,
        .fill = cpu::fill,
        .axpby = cpu::axpby,
        .unary = cpu::unary,
        .unary_dx = cpu::unary_dx,
        .binary = cpu::binary,
        .binary_dx = cpu::binary_dx,
        .binary_dz = cpu::binary_dz,
        .dropout = cpu::dropout,
        .reduce = cpu::reduce,
        .reduce_dx = cpu::reduce_dx,
        .gemm = cpu::gemm,
        .broadcast_rows = cpu::broadcast_rows,
        .gather_rows = cpu::gather_rows,
        .scatter_add_rows = cpu::scatter_add_rows,
        .normalize_rows = cpu::normalize_rows,
        .normalize_rows_dx = cpu::normalize_rows_dx,
        .softmax_cross_entropy = cpu::softmax_cross_entropy,
        .softmax_cross_entropy_dx = cpu::softmax_cross_entropy_dx,
        .conv2d = cpu::conv2d,
        .conv2d_dx = cpu::conv2d_dx,
        .conv2d_dw = cpu::conv2d_dw,
        .batch_norm_train = cpu::batch_norm_train,
        .inverse_std = cpu::inverse_std,
        .batch_norm_eval = cpu::batch_norm_eval,
        .batch_norm_train_dx = cpu::batch_norm_train_dx,
        .batch_norm_eval_dx = cpu::batch_norm_eval_dx,
        .prelu = cpu::prelu,
        .prelu_dx = cpu::prelu_dx,
        .max_pool = cpu::max_pool,
        .max_pool_dx = cpu::max_pool_dx,
        .avg_pool = cpu::avg_pool,
        .avg_pool_dx = cpu::avg_pool_dx,
        .inverse_norms = cpu::inverse_norms,
        .target_cosine = cpu::target_cosine,
        .classifier_statistics = cpu::classifier_statistics,
        .margin_rows = cpu::margin_rows,
        .classifier_dw = cpu::classifier_dw,
        .classifier_dx = cpu::classifier_dx,
        .compensate = cpu::compensate,
        .sum_squares = cpu::sum_squares,
        .clip_factors = cpu::clip_factors,
        .sgd = cpu::sgd,
        .adamw = cpu::adamw,
    };
    return table;
}

}  // namespace bf
