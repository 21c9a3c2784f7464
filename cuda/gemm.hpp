#pragma once
#include "runtime.hpp"

// Products on raw pointers, for kernels that work in tiles.

namespace bf::cuda {

/// A row-major matrix in device memory as it is stored; `transposed`: the product takes it transposed.
struct GemmOperand {
    const void* data;
    DType dtype;
    std::int64_t ld;  ///< elements from row to row
    bool transposed = false;
};

/// c [m, n] (row-major, ldc) = alpha op(a) [m, k] op(b) [k, n] + beta c through cuBLASLt; c is not read where beta is
/// 0. f32 (TF32 as Backend::tf32 says), f64, or bf16 operands with c in bf16 or f32 and sums in f32.
void gemm(Context& context, std::int64_t m, std::int64_t n, std::int64_t k, double alpha, const GemmOperand& a,
          const GemmOperand& b, double beta, void* c, DType c_dtype, std::int64_t ldc);

}  // namespace bf::cuda
