#include "gemm.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "kernels.hpp"

// GEMM through cuBLASLt. cuBLASLt counts columns first: the row-major c = a b is its c^T = b^T a^T, so the operands
// change places and nothing is copied.

namespace bf::cuda {

namespace {

struct ElementFacts {
    cudaDataType_t type;
    std::size_t bytes;
    const char* name;
};

ElementFacts facts_of(Element element) {
    switch (element) {
        case Element::f16: return {CUDA_R_16F, 2, "f16"};
        case Element::bf16: return {CUDA_R_16BF, 2, "bf16"};
        case Element::f32: return {CUDA_R_32F, 4, "f32"};
        case Element::f64: break;
    }
    return {CUDA_R_64F, 8, "f64"};
}

/// Largest power of two up to 256 that divides the address: cuBLASLt's fast kernels want 16.
std::uint32_t alignment_of(const void* p) {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    std::uint32_t alignment = 256;
    while (address % alignment != 0) alignment /= 2;
    return alignment;
}

/// Everything that the choice of an algorithm depends on.
using Key = std::array<std::int64_t, 15>;

/// A product ready to be launched. The library's descriptors are plain memory here, so that a launch allocates nothing.
struct Plan {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t first, second, result;
    cublasLtMatmulAlgo_t algorithm;
    std::size_t workspace = 0;
};

/// More did not pay in cuBLAS's own defaults for Hopper (32 MiB).
constexpr std::size_t most_workspace = std::size_t{32} << 20;

struct Problem {
    std::int64_t m, n, k;
    GemmOperand a, b;
    void* c;
    Element c_element;
    std::int64_t ldc;
    std::string sizes() const {
        return concat("c [", m, ", ", n, "] ", facts_of(c_element).name, " ld ", ldc, ", k ", k, ", operands ",
                      facts_of(a.element).name, " ld ", a.ld, a.transposed ? " transposed" : "", " and ld ", b.ld,
                      b.transposed ? " transposed" : "");
    }
};

/// Filled where it stays: the library's descriptors are never copied.
std::unique_ptr<Plan> make_plan(const Backend& gpu, const Problem& p) {
    auto made = std::make_unique<Plan>();
    Plan& plan = *made;
    const bool wide = p.c_element == Element::f64;
    const bool tf32 = gpu.tf32 && p.a.element == Element::f32;
    const cublasComputeType_t compute =
        wide ? CUBLAS_COMPUTE_64F : (tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
    BF_CUDA(cublasLtMatmulDescInit(&plan.product, compute, wide ? CUDA_R_64F : CUDA_R_32F), p.sizes());
    const cublasOperation_t first_op = p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second_op = p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    BF_CUDA(cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_TRANSA, &first_op, sizeof first_op),
            p.sizes());
    BF_CUDA(cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_TRANSB, &second_op, sizeof second_op),
            p.sizes());
    const auto layout = [&](cublasLtMatrixLayoutOpaque_t& out, Element element, std::int64_t rows, std::int64_t cols,
                            std::int64_t ld) {
        BF_CUDA(cublasLtMatrixLayoutInit(&out, facts_of(element).type, static_cast<std::uint64_t>(rows),
                                         static_cast<std::uint64_t>(cols), ld),
                p.sizes());
    };
    layout(plan.first, p.b.element, p.b.transposed ? p.k : p.n, p.b.transposed ? p.n : p.k, p.b.ld);
    layout(plan.second, p.a.element, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m, p.a.ld);
    layout(plan.result, p.c_element, p.n, p.m, p.ldc);

    cublasLtMatmulPreferenceOpaque_t preference;
    BF_CUDA(cublasLtMatmulPreferenceInit(&preference), p.sizes());
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
        BF_CUDA(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), p.sizes());
    };
    const std::uint64_t limit = std::min(gpu.workspace_limit, most_workspace);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, limit);
    // Parts of a sum are joined in f32 and in a fixed order: the same bits from run to run.
    const std::uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.c));

    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    BF_CUDA(cublasLtMatmulAlgoGetHeuristic(gpu.blas_lt, &plan.product, &plan.first, &plan.second, &plan.result,
                                           &plan.result, &preference, 1, &found, &count),
            p.sizes());
    BF_CHECK(count > 0, "gemm", "cuBLASLt has no algorithm; got ", p.sizes(),
             "; hint: a larger workspace limit, or operands aligned to 16 bytes");
    plan.algorithm = found.algo;
    plan.workspace = found.workspaceSize;
    return made;
}

/// The plan of a problem; the heuristics are asked once a shape.
Plan& plan_of(const Backend& gpu, const Problem& p) {
    static std::mutex mutex;
    static std::map<Key, std::unique_ptr<Plan>> plans;
    const Key key{gpu.device,
                  p.m,
                  p.n,
                  p.k,
                  static_cast<std::int64_t>(p.a.element),
                  static_cast<std::int64_t>(p.c_element),
                  p.a.ld,
                  p.b.ld,
                  p.ldc,
                  p.a.transposed * 2 + p.b.transposed,
                  alignment_of(p.a.data),
                  alignment_of(p.b.data),
                  alignment_of(p.c),
                  gpu.tf32,
                  static_cast<std::int64_t>(std::min(gpu.workspace_limit, most_workspace))};
    const std::lock_guard lock(mutex);
    std::unique_ptr<Plan>& plan = plans[key];
    if (!plan) plan = make_plan(gpu, p);
    return *plan;  // never removed, so the reference outlives the lock
}

/// c = beta c: a product over nothing. c is dense, or beta is 0 or 1.
void scale_result(Context& context, const Problem& p, double beta) {
    if (beta == 1) return;
    if (beta == 0) {
        const std::size_t element = facts_of(p.c_element).bytes;
        BF_CUDA(cudaMemset2DAsync(p.c, static_cast<std::size_t>(p.ldc) * element, 0,
                                  static_cast<std::size_t>(p.n) * element, static_cast<std::size_t>(p.m),
                                  backend(context).stream),
                p.sizes());
        return;
    }
    const DType dtype =
        p.c_element == Element::f64 ? DType::f64 : (p.c_element == Element::f32 ? DType::f32 : DType::bf16);
    const Tensor c = Tensor::over(p.c, {p.m * p.ldc}, {.dtype = dtype, .device = context.device});
    axpby(context, beta, c, 0, c);
}

}  // namespace

Element element_of(DType dtype) {
    BF_CHECK(dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16, "gemm", "dtype not supported; got ",
             name_of(dtype), ", want f32, f64 or bf16");
    return dtype == DType::f64 ? Element::f64 : (dtype == DType::f32 ? Element::f32 : Element::bf16);
}

void gemm(Context& context, std::int64_t m, std::int64_t n, std::int64_t k, double alpha, const GemmOperand& a,
          const GemmOperand& b, double beta, void* c, Element c_element, std::int64_t ldc) {
    const Problem p{m, n, k, a, b, c, c_element, ldc};
    const bool narrow = a.element == Element::f16 || a.element == Element::bf16;
    BF_CHECK(a.element == b.element && (c_element == a.element || (narrow && c_element == Element::f32)), "gemm",
             "elements not supported; got ", facts_of(a.element).name, " times ", facts_of(b.element).name, " into ",
             facts_of(c_element).name, ", want one of all, or 16 bits into f32");
    BF_CHECK(c_element != Element::f16 || beta == 0, "gemm", "a result in f16 is overwritten; got beta ", beta);
    if (m == 0 || n == 0) return;
    if (k == 0) return scale_result(context, p, beta);
    Backend& gpu = backend(context);
    Plan& plan = plan_of(gpu, p);
    // The block goes back to the allocator here and is used again only behind this product: one stream.
    Tensor workspace;
    if (plan.workspace > 0)
        workspace =
            Tensor::empty({static_cast<std::int64_t>(plan.workspace)}, {.dtype = DType::u8, .device = context.device});
    const float alpha_f = static_cast<float>(alpha), beta_f = static_cast<float>(beta);
    const bool wide = c_element == Element::f64;
    const void *alpha_p = wide ? static_cast<const void*>(&alpha) : &alpha_f,
               *beta_p = wide ? static_cast<const void*>(&beta) : &beta_f;
    BF_CUDA(cublasLtMatmul(gpu.blas_lt, &plan.product, alpha_p, b.data, &plan.first, a.data, &plan.second, beta_p, c,
                           &plan.result, c, &plan.result, &plan.algorithm,
                           workspace.defined() ? workspace.raw() : nullptr, plan.workspace, gpu.stream),
            p.sizes());
}

void gemm(Context& context, bool trans_a, bool trans_b, double alpha, const Tensor& a, const Tensor& b, double beta,
          const Tensor& c) {
    const GemmOperand first{a.raw(), element_of(a.dtype()), a.dim(1), trans_a},
        second{b.raw(), element_of(b.dtype()), b.dim(1), trans_b};
    gemm(context, c.dim(0), c.dim(1), trans_a ? a.dim(0) : a.dim(1), alpha, first, second, beta, c.raw(),
         element_of(c.dtype()), c.dim(1));
}

}  // namespace bf::cuda
