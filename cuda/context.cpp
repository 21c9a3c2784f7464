#include "bf/kernels/dispatch.hpp"
#include "handle.hpp"
#include "per_device.hpp"

namespace bf {
namespace {

using namespace cuda;

struct GpuContext {
    Backend backend;
    Context context;
};

/// Throws a usage Error unless this process sees the GPU and this build has code for it.
void check_device(int index) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    const bool absent = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver;
    if (absent) count = 0;
    if (absent) static_cast<void>(cudaGetLastError());
    if (!absent) check_status(status, "cudaGetDeviceCount(&count)", "");
    BF_CHECK(index >= 0 && index < count && index < PerDevice<GpuContext>::most, "device", "cuda:", index,
             " is not there; this process sees ", count, count == 1 ? " GPU" : " GPUs",
             absent ? concat(" (", cudaGetErrorName(status), ": ", cudaGetErrorString(status), ")") : std::string(),
             "; hint: bf doctor names cause and cure, device = \"cpu\" needs no GPU");
    int major = 0, minor = 0;
    BF_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "device ", index);
    BF_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "device ", index);
    BF_CHECK(major * 10 + minor >= 75, "device", "cuda:", index, " is too old; got compute capability ", major, ".",
             minor, ", want 7.5 (Turing) or newer; hint: device = \"cpu\"");
}

std::unique_ptr<GpuContext> make_context(int index) {
    check_device(index);
    BF_CUDA(cudaSetDevice(index), "device ", index);
    auto gpu = std::make_unique<GpuContext>();
    Backend& b = gpu->backend;
    b.device = index;
    b.deterministic = environment_switch("BF_CUDA_DETERMINISTIC", b.deterministic);
    b.tf32 = environment_switch("BF_CUDA_TF32", b.tf32);
    b.autotune = environment_switch("BF_CUDA_AUTOTUNE", b.autotune);
    StreamHandle stream = make_stream();
    BlasLtHandle blas_lt;
    DnnHandle dnn;
    BF_CUDA(cublasLtCreate(blas_lt.out()));
    BF_CUDA(cudnnCreate(dnn.out()));
    BF_CUDA(cudnnSetStream(dnn.get(), stream.get()));
    b.stream = stream.release();
    b.blas_lt = blas_lt.release();
    b.dnn = dnn.release();
    gpu->context = {{DeviceType::cuda, index}, &gpu->backend};
    return gpu;
}

}  // namespace

// The current device is a property of the calling thread, so it is set at every call, which costs tens of nanoseconds;
// launches and library calls that follow in this thread then go to this GPU.
Context& cuda_context(int index) {
    static auto* contexts = new PerDevice<GpuContext>;
    BF_CHECK(index >= 0 && index < PerDevice<GpuContext>::most, "device", "cuda:", index,
             " is no number of a GPU; want 0 to ", PerDevice<GpuContext>::most - 1);
    GpuContext& gpu = contexts->get(index, [index] { return make_context(index); });
    BF_CUDA(cudaSetDevice(index), "device ", index);
    return gpu.context;
}

}  // namespace bf
