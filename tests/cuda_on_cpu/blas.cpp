// The calls of cuBLASLt that cuda/gemm.cpp makes. Matrices are stored column by column; sums are in the computing type.
#ifdef BF_CUDA_ON_CPU
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <vector>

#include "kernel.hpp"

namespace {

struct Product {
    cudaDataType_t scale;
    std::int32_t transposed_a, transposed_b;
};
struct Layout {
    cudaDataType_t type;
    std::int64_t rows, cols, ld;
};
static_assert(sizeof(Product) <= sizeof(cublasLtMatmulDescOpaque_t) &&
              sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

const Layout& of(cublasLtMatrixLayout_t layout) { return *reinterpret_cast<const Layout*>(layout); }
Product& of(cublasLtMatmulDesc_t product) { return *reinterpret_cast<Product*>(product); }

double read(const void* p, cudaDataType_t type, std::int64_t i = 0) {
    if (type == CUDA_R_64F) return static_cast<const double*>(p)[i];
    if (type == CUDA_R_32F) return static_cast<double>(static_cast<const float*>(p)[i]);
    if (type == CUDA_R_16F) return static_cast<double>(__half2float(static_cast<const __half*>(p)[i]));
    return static_cast<double>(__bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]));
}
void write(void* p, cudaDataType_t type, std::int64_t i, double value) {
    if (type == CUDA_R_64F)
        static_cast<double*>(p)[i] = value;
    else if (type == CUDA_R_32F)
        static_cast<float*>(p)[i] = static_cast<float>(value);
    else if (type == CUDA_R_16F)
        static_cast<__half*>(p)[i] = __float2half_rn(static_cast<float>(value));
    else
        static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(static_cast<float>(value));
}

/// op(matrix) with its rows, or its columns, side by side.
template <class T>
std::vector<T> lines(const void* p, const Layout& m, bool columns) {
    std::vector<T> out(static_cast<std::size_t>(m.rows * m.cols));
    for (std::int64_t c = 0; c < m.cols; ++c)
        for (std::int64_t r = 0; r < m.rows; ++r)
            out[static_cast<std::size_t>(columns ? c * m.rows + r : r * m.cols + c)] =
                static_cast<T>(read(p, m.type, r + c * m.ld));
    return out;
}

/// d = alpha op(a) op(b) + beta d; d is not read where beta is 0.
template <class T>
void multiply(const Product& product, double alpha, const void* a, const Layout& la, const void* b, const Layout& lb,
              double beta, void* d, const Layout& ld) {
    const std::vector<T> left = lines<T>(a, la, product.transposed_a != 0),
                         right = lines<T>(b, lb, product.transposed_b == 0);
    const std::int64_t k = product.transposed_a ? la.rows : la.cols;
    for (std::int64_t c = 0; c < ld.cols; ++c)
        for (std::int64_t r = 0; r < ld.rows; ++r) {
            const T *x = left.data() + r * k, *y = right.data() + c * k;
            T sum[8] = {};  // side by side in the registers of a CPU
            std::int64_t i = 0;
            for (; i + 8 <= k; i += 8)
                for (int j = 0; j < 8; ++j) sum[j] += x[i + j] * y[i + j];
            for (; i < k; ++i) sum[0] += x[i] * y[i];
            for (int j = 1; j < 8; ++j) sum[0] += sum[j];
            const std::int64_t at = r + c * ld.ld;
            write(d, ld.type, at, alpha * static_cast<double>(sum[0]) + (beta != 0 ? beta * read(d, ld.type, at) : 0));
        }
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return *handle = nullptr, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
const char* cublasGetStatusName(cublasStatus_t) { return "cublasStatus"; }
const char* cublasGetStatusString(cublasStatus_t) { return "an error of cuBLAS on the CPU"; }
cublasStatus_t cublasGetProperty(libraryPropertyType, int* value) { return *value = 0, CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, std::size_t, cublasComputeType_t,
                                               cudaDataType_t scale) {
    of(product) = {scale, CUBLAS_OP_N, CUBLAS_OP_N};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t name,
                                              const void* value, std::size_t bytes) {
    const bool first = name == CUBLASLT_MATMUL_DESC_TRANSA;
    if (bytes != sizeof(std::int32_t) || (!first && name != CUBLASLT_MATMUL_DESC_TRANSB))
        return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(first ? &of(product).transposed_a : &of(product).transposed_b, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, std::size_t, cudaDataType_t type,
                                                 std::uint64_t rows, std::uint64_t cols, std::int64_t ld) {
    *reinterpret_cast<Layout*>(layout) = {type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t, std::size_t) {
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void*,
                                                    std::size_t bytes) {
    const bool wide = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    return bytes == (wide ? sizeof(std::uint64_t) : sizeof(std::uint32_t)) ? CUBLAS_STATUS_SUCCESS
                                                                           : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int,
                                              cublasLtMatmulHeuristicResult_t* found, int* count) {
    const Product& p = of(product);
    const Layout &la = of(a), &lb = of(b), &ld = of(d);
    const std::int64_t m = p.transposed_a ? la.cols : la.rows, k = p.transposed_a ? la.rows : la.cols,
                       k_b = p.transposed_b ? lb.cols : lb.rows, n = p.transposed_b ? lb.rows : lb.cols;
    for (const Layout* l : {&la, &lb, &ld})
        if (l->ld < l->rows) return CUBLAS_STATUS_INVALID_VALUE;
    if (c != d || m != ld.rows || n != ld.cols || k != k_b) return CUBLAS_STATUS_INVALID_VALUE;
    found->workspaceSize = 1000;  // some, so that the caller's memory for it is seen to be there
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t*, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
    if (c != d) return CUBLAS_STATUS_INVALID_VALUE;
    const Product p = of(product);
    const Layout la = of(layout_a), lb = of(layout_b), ld = of(layout_d);
    const double first = read(alpha, p.scale), second = read(beta, p.scale);
    bf::cuda_on_cpu::queue(stream, [=] {
        std::memset(workspace, 0xff, workspace_bytes);
        if (p.scale == CUDA_R_64F)
            multiply<double>(p, first, a, la, b, lb, second, d, ld);
        else
            multiply<float>(p, first, a, la, b, lb, second, d, ld);
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
#endif
