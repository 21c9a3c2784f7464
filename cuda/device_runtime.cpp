#include "bf/core/device_runtime.hpp"

#include "bf/kernels/dispatch.hpp"
#include "memory.hpp"
#include "per_device.hpp"
#include "pinned.hpp"

// Lanes, events, pinned memory and captured graphs of NVIDIA GPUs. The lane `compute` is the backend's stream.

namespace bf {
namespace cuda {
namespace {

Backend& backend_of(int index) { return backend(cuda_context(index)); }

cudaStream_t stream_of(Lane lane, int index) {
    const Backend& b = backend_of(index);
    if (lane == Lane::compute) return b.stream;
    static auto* transfers = new PerDevice<StreamHandle>;
    return transfers->get(index, [] { return std::make_unique<StreamHandle>(make_stream()); }).get();
}
/// The same for the order of lanes, which a graph has no part in: it would drag the other lane into the capture.
cudaStream_t ordered_stream_of(Lane lane, const char* op, int index) {
    if (lane == Lane::compute)
        refuse_in_capture(backend_of(index), op, "an event", "order the lanes before the capture and behind launch()");
    return stream_of(lane, index);
}

cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

bool passed(void* event, int index) {
    const cudaError_t status = cudaEventQuery(event_of(event));
    if (status == cudaErrorNotReady) {
        static_cast<void>(cudaGetLastError());  // an answer, no error: no later check may find it
        return false;
    }
    check_status(status, "cudaEventQuery(event)", concat("device ", index));
    return true;
}

void copy(void* to, const void* from, std::size_t bytes, CopyKind kind, Lane lane, int index) {
    const cudaMemcpyKind way = kind == CopyKind::to_device ? cudaMemcpyHostToDevice
                               : kind == CopyKind::to_host ? cudaMemcpyDeviceToHost
                                                           : cudaMemcpyDeviceToDevice;
    if (bytes > 0) BF_CUDA(cudaMemcpyAsync(to, from, bytes, way, stream_of(lane, index)), "bytes ", bytes);
}

struct Graph {
    GraphExecHandle exec;
    EventHandle done = make_event();  ///< behind the launch before
    int pool = 0;
};

/// Runs f where nothing may be thrown; what fails there is reported by the next call.
template <class F>
void quietly(F&& f) {
    try {
        f();
    } catch (const Error&) {
    }
}

void begin_capture(int index) {
    Backend& b = backend_of(index);
    const int pool = open_pool(index);  // throws while another capture is in progress
    try {
        // relaxed: the allocator may have to ask the driver for memory, and other threads go on with their own work
        BF_CUDA(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeRelaxed), "device ", index);
    } catch (...) {
        drop_pool(pool, index);
        throw;
    }
    b.capture_pool = pool;
}

void* end_capture(int index) {
    Backend& b = backend_of(index);
    BF_CHECK(b.capturing(), "graph", "nothing is being captured on cuda:", index);
    GraphHandle captured;
    BF_CUDA(cudaStreamEndCapture(b.stream, captured.out()), "device ", index);
    auto graph = std::make_unique<Graph>();
    BF_CUDA(cudaGraphInstantiate(graph->exec.out(), captured.get(), 0), "device ", index);
    close_pool(index);
    graph->pool = b.capture_pool.exchange(0);
    return graph.release();
}

void abort_capture(int index) {
    quietly([&] {
        Backend& b = backend_of(index);
        if (!b.capturing()) return;
        quietly([&] {  // end_capture() may have ended it already
            cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
            BF_CUDA(cudaStreamIsCapturing(b.stream, &status));
            GraphHandle captured;
            if (status != cudaStreamCaptureStatusNone) BF_CUDA(cudaStreamEndCapture(b.stream, captured.out()));
        });
        drop_pool(b.capture_pool.exchange(0), index);
    });
}

void launch(void* graph, int index) {
    const Backend& b = backend_of(index);
    refuse_in_capture(b, "launch", "a graph", "launch behind the capture");
    const auto& g = *static_cast<const Graph*>(graph);
    BF_CUDA(cudaGraphLaunch(g.exec.get(), b.stream), "device ", index);
    BF_CUDA(cudaEventRecord(g.done.get(), b.stream), "device ", index);
}

void destroy_graph(void* graph, int index) {
    const std::unique_ptr<Graph> g(static_cast<Graph*>(graph));
    quietly([&] { BF_CUDA(cudaEventSynchronize(g->done.get()), "device ", index); });
    drop_pool(g->pool, index);
}

}  // namespace
}  // namespace cuda

const DeviceRuntime& cuda_runtime() {
    using namespace cuda;
    static const DeviceRuntime table{
        .has_bf16 =
            [](int index) {
                int major = 0;
                static_cast<void>(backend_of(index));  // is it there?
                BF_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "device ", index);
                return major >= 8;
            },
        .settings =
            [](int index) {
                const Backend& b = backend_of(index);
                return DeviceSettings{.tf32 = b.tf32, .deterministic = b.deterministic, .autotune = b.autotune};
            },
        .configure =
            [](const DeviceSettings& s, int index) {
                Backend& b = backend_of(index);
                b.tf32 = s.tf32;
                b.deterministic = s.deterministic;
                b.autotune = s.autotune;
            },
        .pin =
            [](std::size_t bytes, int index) {
                static_cast<void>(backend_of(index));  // makes the GPU current, or says that it is not there
                return pinned_allocator().allocate(bytes);
            },
        .unpin = [](void* p, std::size_t bytes, int) { pinned_allocator().deallocate(p, bytes); },
        .copy = copy,
        .make_event =
            [](int index) {
                static_cast<void>(backend_of(index));
                return static_cast<void*>(make_event().release());
            },
        .destroy_event = [](void* event, int) { EventHandle(event_of(event)); },
        .record =
            [](void* event, Lane lane, int index) {
                BF_CUDA(cudaEventRecord(event_of(event), ordered_stream_of(lane, "record", index)), "device ", index);
            },
        .wait =
            [](void* event, Lane lane, int index) {
                BF_CUDA(cudaStreamWaitEvent(ordered_stream_of(lane, "order", index), event_of(event), 0), "device ",
                        index);
            },
        .passed = passed,
        .synchronize = [](void* event, int index) { BF_CUDA(cudaEventSynchronize(event_of(event)), "device ", index); },
        .begin_capture = begin_capture,
        .end_capture = end_capture,
        .abort_capture = abort_capture,
        .launch = launch,
        .destroy_graph = destroy_graph,
    };
    return table;
}

}  // namespace bf
