// The calls of the CUDA runtime that cuda/ makes, on memory of the host. Work of a stream is done when it is queued,
// except under capture: then it becomes part of the graph.
#ifdef BF_CUDA_ON_CPU
#include <cudnn.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "kernel.hpp"

namespace bf::cuda_on_cpu {
namespace {

using Work = std::vector<std::function<void()>>;

struct Stream {
    bool capturing = false, spoiled = false;
    Work captured;
};
Stream& of(cudaStream_t stream) { return *reinterpret_cast<Stream*>(stream); }
Work* of(cudaGraph_t graph) { return reinterpret_cast<Work*>(graph); }
Work* of(cudaGraphExec_t graph) { return reinterpret_cast<Work*>(graph); }

cudaError_t last_error = cudaSuccess;
cudaError_t failed(cudaError_t status) { return last_error = status; }

/// Memory whose bytes make a NaN of every float.
cudaError_t allocate(void** p, std::size_t bytes) {
    constexpr std::size_t alignment = 512;
    *p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (*p == nullptr) return failed(cudaErrorMemoryAllocation);
    std::memset(*p, 0xff, bytes);
    return cudaSuccess;
}

}  // namespace

void queue(cudaStream_t stream, std::function<void()> work) {
    if (of(stream).capturing)
        of(stream).captured.push_back(std::move(work));
    else
        work();
}

}  // namespace bf::cuda_on_cpu

using namespace bf::cuda_on_cpu;

extern "C" {

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t status) { return status == cudaSuccess ? "cudaSuccess" : "cudaError"; }
const char* cudaGetErrorString(cudaError_t) { return "an error of CUDA on the CPU"; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) { return *properties = {}, cudaSuccess; }

cudaError_t cudaMalloc(void** p, std::size_t bytes) { return allocate(p, bytes); }
cudaError_t cudaFree(void* p) { return std::free(p), cudaSuccess; }
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) { return allocate(p, bytes); }
cudaError_t cudaFreeHost(void* p) { return std::free(p), cudaSuccess; }
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    *free = *total = std::size_t{8} << 30;
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    queue(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
    queue(stream, [=] { std::memset(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemset2DAsync(void* p, std::size_t pitch, int value, std::size_t width, std::size_t height,
                              cudaStream_t stream) {
    queue(stream, [=] {
        for (std::size_t row = 0; row < height; ++row) std::memset(static_cast<char*>(p) + row * pitch, value, width);
    });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    *stream = reinterpret_cast<cudaStream_t>(new Stream);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete &of(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (!of(stream).capturing) return cudaSuccess;
    of(stream).spoiled = true;
    return failed(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (of(stream).capturing) return failed(cudaErrorIllegalState);
    of(stream) = {};
    of(stream).capturing = true;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const Stream& s = of(stream);
    *status = !s.capturing ? cudaStreamCaptureStatusNone
              : s.spoiled  ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    if (!of(stream).capturing) return failed(cudaErrorIllegalState);
    const Stream ended = std::exchange(of(stream), {});
    *graph = nullptr;
    if (ended.spoiled) return failed(cudaErrorStreamCaptureInvalidated);
    *graph = reinterpret_cast<cudaGraph_t>(new Work(ended.captured));
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
    *ready = reinterpret_cast<cudaGraphExec_t>(new Work(*of(graph)));
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
    for (const auto& work : *of(graph)) work();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete of(graph), cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete of(graph), cudaSuccess; }

// An event has always passed.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new char);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete reinterpret_cast<char*>(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    return *milliseconds = 1, cudaSuccess;
}

// cuDNN is named and never used: convolution.cpp stands in the place of dnn_graph.cpp.
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return *handle = nullptr, CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnDestroy(cudnnHandle_t) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }
const char* cudnnGetErrorString(cudnnStatus_t) { return "an error of cuDNN on the CPU"; }
void cudnnGetLastErrorString(char* text, std::size_t size) {
    if (size > 0) *text = '\0';
}
std::size_t cudnnGetVersion() { return CUDNN_VERSION; }

}  // extern "C"
#endif
