#include "kernels.hpp"

namespace bf {

const KernelTable& cuda_table() {
    static const KernelTable table{
        .convert = cuda::convert,
        .fill = cuda::fill,
        .axpby = cuda::axpby,
        .unary = cuda::unary,
        .unary_dx = cuda::unary_dx,
        .binary = cuda::binary,
        .binary_dx = cuda::binary_dx,
        .binary_dz = cuda::binary_dz,
        .dropout = cuda::dropout,
        .reduce = cuda::reduce,
        .reduce_dx = cuda::reduce_dx,
        .gemm = cuda::gemm,
        .broadcast_rows = cuda::broadcast_rows,
        .gather_rows = cuda::gather_rows,
        .scatter_add_rows = cuda::scatter_add_rows,
        .normalize_rows = cuda::normalize_rows,
        .normalize_rows_dx = cuda::normalize_rows_dx,
        .softmax_cross_entropy = cuda::softmax_cross_entropy,
        .softmax_cross_entropy_dx = cuda::softmax_cross_entropy_dx,
        .conv2d = cuda::conv2d,
        .conv2d_dx = cuda::conv2d_dx,
        .conv2d_dw = cuda::conv2d_dw,
        .batch_norm_train = cuda::batch_norm_train,
        .inverse_std = cuda::inverse_std,
        .batch_norm_eval = cuda::batch_norm_eval,
        .batch_norm_train_dx = cuda::batch_norm_train_dx,
        .batch_norm_eval_dx = cuda::batch_norm_eval_dx,
        .prelu = cuda::prelu,
        .prelu_dx = cuda::prelu_dx,
        .max_pool = cuda::max_pool,
        .max_pool_dx = cuda::max_pool_dx,
        .avg_pool = cuda::avg_pool,
        .avg_pool_dx = cuda::avg_pool_dx,
        .inverse_norms = cuda::inverse_norms,
        .target_cosine = cuda::target_cosine,
        .classifier_statistics = cuda::classifier_statistics,
        .margin_rows = cuda::margin_rows,
        .classifier_dw = cuda::classifier_dw,
        .classifier_dx = cuda::classifier_dx,
        .compensate = cuda::compensate,
        .sum_squares = cuda::sum_squares,
        .clip_factors = cuda::clip_factors,
        .sgd = cuda::sgd,
        .adamw = cuda::adamw,
    };
    return table;
}

}  // namespace bf
