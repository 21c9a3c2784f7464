#pragma once
#include <exception>
#include <memory>
#include <utility>

#include "bf/core/tensor.hpp"

namespace bf {

/// The queues of a device. Work of one lane runs in the order in which it was queued; lanes run beside each other
/// unless an Event orders them. Kernels and everything in Tensor belong to `compute`.
enum class Lane : std::uint8_t { compute, transfer };

/// How a device computes.
struct DeviceSettings {
    bool tf32 = true;           ///< f32 products may round their operands to TF32
    bool deterministic = true;  ///< same bits from run to run
    bool autotune = false;      ///< time the ways to compute a convolution, once a shape
};

/// What a device can do beside the host: one plain struct of function pointers a kind of device. `index` is the number
/// of the device; events and graphs are opaque. Nothing here waits for the device unless it says so.
struct DeviceRuntime {
    bool (*has_bf16)(int index);  ///< tensor cores for bf16; of the CPU: instructions for it
    DeviceSettings (*settings)(int index);
    void (*configure)(const DeviceSettings&, int index);

    // host memory that the device reads and writes by itself
    void* (*pin)(std::size_t bytes, int index);
    void (*unpin)(void* p, std::size_t bytes, int index);  ///< no queued copy may still use it
    /// Queues a copy; the host side is pinned memory, left alone until an event recorded behind the copy has passed.
    void (*copy)(void* to, const void* from, std::size_t bytes, CopyKind kind, Lane lane, int index);

    void* (*make_event)(int index);
    void (*destroy_event)(void* event, int index);
    void (*record)(void* event, Lane lane, int index);  ///< it passes when the work queued on the lane so far has ended
    void (*wait)(void* event, Lane lane, int index);    ///< work queued on the lane from now on waits for it
    bool (*passed)(void* event, int index);             ///< true for an event that was never recorded
    void (*synchronize)(void* event, int index);        ///< the host waits for it

    /// From begin to end, work queued on `compute` is not run but kept as a graph; memory allocated meanwhile belongs
    /// to the graph until it is destroyed. What needs the host meanwhile (a copy from or to pageable memory, a wait) is
    /// an Error.
    void (*begin_capture)(int index);
    void* (*end_capture)(int index);   ///< gives the graph, ready to launch
    void (*abort_capture)(int index);  ///< ends a capture that went wrong; throws nothing
    void (*launch)(void* graph, int index);
    void (*destroy_graph)(void* graph, int index);  ///< its work has ended; throws nothing
};

/// AVX512-BF16, which processors with AMX have too.
inline bool cpu_has_bf16() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
}

/// The host as a device: everything queued has been done when the call returns, and nothing can be captured.
inline const DeviceRuntime& cpu_runtime() {
    static constexpr const char* no_graphs = "the cpu captures no graphs; hint: only a GPU has launches to save";
    static const DeviceRuntime table{
        .has_bf16 = [](int) { return cpu_has_bf16(); },
        .settings = [](int) { return DeviceSettings{.tf32 = false}; },
        .configure = [](const DeviceSettings&, int) {},
        .pin = [](std::size_t bytes, int) { return cpu_allocator().allocate(bytes); },
        .unpin = [](void* p, std::size_t bytes, int) { cpu_allocator().deallocate(p, bytes); },
        .copy = [](void* to, const void* from, std::size_t bytes, CopyKind, Lane,
                   int) { std::memcpy(to, from, bytes); },
        .make_event = [](int) -> void* { return nullptr; },
        .destroy_event = [](void*, int) {},
        .record = [](void*, Lane, int) {},
        .wait = [](void*, Lane, int) {},
        .passed = [](void*, int) { return true; },
        .synchronize = [](void*, int) {},
        .begin_capture = [](int) { fail(ErrorCode::usage, "graph", no_graphs); },
        .end_capture = [](int) -> void* { fail(ErrorCode::usage, "graph", no_graphs); },
        .abort_capture = [](int) {},
        .launch = [](void*, int) { fail(ErrorCode::usage, "graph", no_graphs); },
        .destroy_graph = [](void*, int) {},
    };
    return table;
}

#ifdef BF_HAVE_CUDA
/// Comes with bf::cuda.
const DeviceRuntime& cuda_runtime();
#endif

/// The runtime table of a device. Throws a usage Error if the device is not part of this build.
inline const DeviceRuntime& device_runtime(Device device) {
    if (device.type == DeviceType::cpu) return cpu_runtime();
#ifdef BF_HAVE_CUDA
    return cuda_runtime();
#else
    no_cuda("runtime");
#endif
}

/// A point in a lane's work.
class Event {
  public:
    explicit Event(Device device) : device_(device), event_(device_runtime(device).make_event(device.index)) {}
    ~Event() {
        if (event_) device_runtime(device_).destroy_event(event_, device_.index);
    }
    Event(Event&& other) noexcept : device_(other.device_), event_(std::exchange(other.event_, nullptr)) {}
    Event& operator=(Event&& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(event_, other.event_);
        return *this;
    }

    /// Passes when what is queued on the lane so far has ended.
    void record(Lane lane) const { device_runtime(device_).record(event_, lane, device_.index); }
    /// What is queued on the lane from now on waits for it; the host does not.
    void order(Lane lane) const { device_runtime(device_).wait(event_, lane, device_.index); }
    bool passed() const { return device_runtime(device_).passed(event_, device_.index); }
    /// The host waits for it.
    void synchronize() const { device_runtime(device_).synchronize(event_, device_.index); }
    /// The same for destructors: an error of the device is left to the next call to it.
    void settle() const noexcept {
        try {
            if (event_) synchronize();
        } catch (...) {
        }
    }

  private:
    Device device_;
    void* event_;
};

/// A tensor in pinned host memory, for queued copies from and to `device`.
inline Tensor pinned(const Shape& shape, const TensorOptions& options, Device device) {
    const std::size_t bytes = static_cast<std::size_t>(shape.numel()) * size_of(options.dtype);
    void* p = device_runtime(device).pin(bytes, device.index);
    return Tensor::over(p, shape, {options.dtype, cpu_device, options.format}, std::shared_ptr<void>(p, [=](void* q) {
                            device_runtime(device).unpin(q, bytes, device.index);
                        }));
}

/// Queues a copy between a tensor of a device and a pinned one of the same shape, dtype and format.
inline void copy_queued(const Tensor& to, const Tensor& from, Lane lane) {
    BF_CHECK(to.shape() == from.shape() && to.dtype() == from.dtype() && to.format() == from.format() &&
                 (to.device() == cpu_device || from.device() == cpu_device),
             "copy", "tensors differ; got ", from.str(), ", want ", to.str());
    const bool up = from.device() == cpu_device;
    const Device device = up ? to.device() : from.device();
    if (to.numel() > 0)
        device_runtime(device).copy(to.raw(), from.raw(), to.bytes(), up ? CopyKind::to_device : CopyKind::to_host,
                                    lane, device.index);
}

/// Work of a device's `compute` lane that was captured once and is launched again and again: it reads and writes the
/// very memory that it was captured with.
class DeviceGraph {
  public:
    /// Captures what `work` queues. What it throws ends the capture and passes through.
    template <class F>
    DeviceGraph(Device device, F&& work) : device_(device) {
        const DeviceRuntime& runtime = device_runtime(device);
        runtime.begin_capture(device.index);
        try {
            work();
            graph_ = runtime.end_capture(device.index);
        } catch (...) {
            runtime.abort_capture(device.index);
            throw;
        }
    }
    ~DeviceGraph() {
        if (!graph_) return;
        try {
            device_memory(device_).synchronize(device_.index);  // a launch may still be queued
        } catch (...) {  // an error of the device: the next call to it reports it
        }
        device_runtime(device_).destroy_graph(graph_, device_.index);
    }
    DeviceGraph(const DeviceGraph&) = delete;
    DeviceGraph& operator=(const DeviceGraph&) = delete;

    void launch() const { device_runtime(device_).launch(graph_, device_.index); }

  private:
    Device device_;
    void* graph_ = nullptr;
};

}  // namespace bf
