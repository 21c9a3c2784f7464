#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include <atomic>

#include "bf/kernels/table.hpp"

// What every file of cuda/ needs: the check around each library call, and what a Context carries on a GPU.

namespace bf::cuda {

/// What Context::backend points to: one for each GPU, made at its first use and kept to the end of the program.
struct Backend {
    int device = 0;
    cudaStream_t stream = nullptr;  ///< all kernels and copies of the training step, in order
    cublasLtHandle_t blas_lt = nullptr;
    cudnnHandle_t dnn = nullptr;
    // DeviceSettings; set while no work is being queued. All that is kept for a setting is kept under it.
    bool tf32 = true;                                    ///< f32 products may use TF32 tensor cores
    bool deterministic = true;                           ///< same bits from run to run
    bool autotune = false;                               ///< time the plans that cuDNN proposes, once a shape
    std::size_t workspace_limit = std::size_t{1} << 30;  ///< bytes that one convolution or product may take
    std::atomic<int> capture_pool = 0;                   ///< memory of the graph that `stream` is captured into
    bool capturing() const { return capture_pool != 0; }
};
inline Backend& backend(Context& context) { return *static_cast<Backend*>(context.backend); }

/// Throws a runtime Error while the work of the backend's stream is captured; for what would end the capture, before it
/// does.
inline void refuse_in_capture(const Backend& b, const char* op, const char* what, const char* hint) {
    if (b.capturing())
        fail(ErrorCode::runtime, op, what, " cannot be part of a graph, and one is being captured on cuda:", b.device,
             "; hint: ", hint);
}

// Throw a runtime Error unless the status means success: the call's text, the error's name and meaning, the sizes that
// the caller adds, a hint. Errors that stay (a kernel that failed earlier) say so.
void check_status(cudaError_t status, const char* call, const std::string& sizes);
void check_status(cublasStatus_t status, const char* call, const std::string& sizes);
void check_status(cudnnStatus_t status, const char* call, const std::string& sizes);

}  // namespace bf::cuda

/// The check around every library call of this folder: BF_CUDA(cudaMemcpyAsync(...), "bytes ", n). The text of sizes is
/// made only when the call failed. A test counts the calls that stand without it.
#define BF_CUDA(call, ...)                                                                           \
    do {                                                                                             \
        if (const auto bf_status = (call); static_cast<int>(bf_status) != 0)                         \
            ::bf::cuda::check_status(bf_status, #call, ::bf::concat("" __VA_OPT__(, ) __VA_ARGS__)); \
    } while (0)
