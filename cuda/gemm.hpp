#pragma once
#include "runtime.hpp"

// Products on raw pointers, for kernels that work in tiles.

namespace bf::cuda {

/// What a matrix of a product is stored in: the computing dtypes, and halves for scratch of kernels.
enum class Element : std::uint8_t { f16, bf16, f32, f64 };

/// The element of a tensor of this dtype. Other dtypes than f32, f64 and bf16: an error.
Element element_of(DType dtype);

/// A row-major matrix in device memory as it is stored; `transposed`: the product takes it transposed.
struct GemmOperand {
    const void* data;
    Element element;
    std::int64_t ld;  ///< elements from row to row
    bool transposed = false;
};

/// c [m, n] (row-major, ldc) = alpha op(a) [m, k] op(b) [k, n] + beta c through cuBLASLt; c is not read where beta is
/// 0. f32 (TF32 as Backend::tf32 says), f64, or operands of 16 bits with c as they are or in f32 and sums in f32.
void gemm(Context& context, std::int64_t m, std::int64_t n, std::int64_t k, double alpha, const GemmOperand& a,
          const GemmOperand& b, double beta, void* c, Element c_element, std::int64_t ldc);

}  // namespace bf::cuda
