#include "runtime.hpp"

namespace bf::cuda {
namespace {

/// One form for the three libraries: `cudaMalloc: cudaErrorMemoryAllocation (out of memory); got bytes 8; call ...`.
[[noreturn]] void report(const std::string& call, const std::string& name, const std::string& meaning,
                         const std::string& sizes, const std::string& hint, ErrorCode code = ErrorCode::runtime) {
    fail(code, call.substr(0, call.find('(')), name, " (", meaning, ")", sizes.empty() ? "" : "; got ", sizes,
         "; call ", call, "; hint: ", hint);
}

/// After these the process can use the GPU no more; they come from a kernel that ran earlier, not from this call.
bool stays(cudaError_t status) {
    switch (status) {
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchFailure:
        case cudaErrorLaunchTimeout:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorExternalDevice:
        case cudaErrorContained:
        case cudaErrorMpsClientTerminated: return true;
        default: return false;
    }
}

const char* hint_for(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return "a smaller batch, queue or network; nvidia-smi shows other programs on this GPU";
        case cudaErrorNoDevice: return "the driver sees no GPU (is CUDA_VISIBLE_DEVICES empty?); bf doctor says more";
        case cudaErrorInsufficientDriver:
            return "no NVIDIA driver is running, or it is older than the CUDA runtime of this build; install a newer "
                   "driver; bf doctor says more";
        case cudaErrorInvalidDevice: return "bf doctor lists the GPUs that this process sees";
        case cudaErrorDevicesUnavailable:
            return "another program holds the GPU alone (compute mode Exclusive); nvidia-smi names it";
        case cudaErrorNoKernelImageForDevice:
            return "this build holds no code for this GPU; add its compute capability to CMAKE_CUDA_ARCHITECTURES";
        case cudaErrorECCUncorrectable:
            return "the GPU's memory is damaged; look into nvidia-smi -q and the kernel log";
        case cudaErrorStreamCaptureUnsupported:
        case cudaErrorStreamCaptureInvalidated:
        case cudaErrorStreamCaptureImplicit:
        case cudaErrorStreamCaptureIsolation:
        case cudaErrorCapturedEvent:
            return "a captured step may not wait, for the host or for work queued before; run two steps before "
                   "capturing, so that every kernel is loaded and every plan made";
        default:
            return stays(status) ? "CUDA_LAUNCH_BLOCKING=1 names the call that failed, compute-sanitizer the address"
                                 : "bf doctor shows driver and libraries; please report this with its output";
    }
}

}  // namespace

void check_status(cudaError_t status, const char* call, const std::string& sizes) {
    if (status == cudaSuccess) return;
    // The runtime keeps the error for the next cudaGetLastError(), where it would be laid to a kernel's charge.
    static_cast<void>(cudaGetLastError());
    std::string meaning = cudaGetErrorString(status);
    if (stays(status))
        meaning +=
            "; it stays: a kernel queued earlier failed, every later call ends like this, and only a new process "
            "can use the GPU again";
    const bool absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
    report(call, cudaGetErrorName(status), meaning, sizes, hint_for(status),
           absent ? ErrorCode::usage : ErrorCode::runtime);
}

void check_status(cublasStatus_t status, const char* call, const std::string& sizes) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    const char* hint = "bf doctor shows driver and libraries; please report this with its output";
    if (status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_NOT_INITIALIZED)
        hint = "the GPU has no memory left for the library's own use; a smaller batch, queue or network";
    if (status == CUBLAS_STATUS_ARCH_MISMATCH || status == CUBLAS_STATUS_NOT_SUPPORTED)
        hint = "this GPU or this shape has no such product; another dtype may have one (f32 with tf32 off)";
    if (status == CUBLAS_STATUS_EXECUTION_FAILED)
        hint = "a kernel failed; CUDA_LAUNCH_BLOCKING=1 names the call, compute-sanitizer the address";
    report(call, cublasGetStatusName(status), cublasGetStatusString(status), sizes, hint);
}

void check_status(cudnnStatus_t status, const char* call, const std::string& sizes) {
    if (status == CUDNN_STATUS_SUCCESS) return;
    char detail[1024] = "";
    cudnnGetLastErrorString(detail, sizeof detail);
    const int category = static_cast<int>(status) / 1000;
    const char* meaning = category == 1   ? "the library could not be used"
                          : category == 2 ? "an argument is wrong"
                          : category == 3 ? "not supported by this library, shape or GPU"
                          : category == 4 ? "internal error of the library"
                          : category == 5 ? "a kernel failed"
                                          : "unknown";
    const char* hint =
        status == CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH || status == CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED
            ? "the parts of cuDNN differ in version or are missing; look at LD_LIBRARY_PATH and bf doctor"
        : status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
            ? "the GPU has no memory left for the library's own use; a smaller batch, queue or network"
        : category == 5 ? "CUDA_LAUNCH_BLOCKING=1 names the call, compute-sanitizer the address"
                        : "CUDNN_LOGLEVEL_DBG=3 CUDNN_LOGDEST_DBG=stderr makes the library tell why";
    report(call, cudnnGetErrorString(status), concat(meaning, *detail ? ": " : "", detail), sizes, hint);
}

}  // namespace bf::cuda
