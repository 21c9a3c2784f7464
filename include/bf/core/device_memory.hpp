#pragma once
#include <cstring>

#include "bf/core/cpu_allocator.hpp"
#include "bf/core/device.hpp"

namespace bf {

/// Which way bytes move.
enum class CopyKind { to_device, to_host, on_device };

/// What a device's memory can do: one plain struct of function pointers a kind of device, as KernelTable is for its
/// kernels. `index` is the number of the device. Copies and zero() are ordered with the device's kernels; a copy to the
/// host has ended when the call returns, one to the device when `from` may be overwritten.
struct DeviceMemory {
    void* (*allocate)(std::size_t bytes, int index);
    void (*deallocate)(void* p, std::size_t bytes, int index);
    void (*copy)(void* to, const void* from, std::size_t bytes, CopyKind kind, int index);
    void (*zero)(void* p, std::size_t bytes, int index);
    void (*synchronize)(int index);
    MemoryStats (*stats)(int index);
    void (*reset_peak)(int index);
    void (*release_cache)(int index);
};

/// Memory of the host.
inline const DeviceMemory& cpu_memory() {
    static const DeviceMemory table{
        .allocate = [](std::size_t bytes, int) { return cpu_allocator().allocate(bytes); },
        .deallocate = [](void* p, std::size_t bytes, int) { cpu_allocator().deallocate(p, bytes); },
        .copy = [](void* to, const void* from, std::size_t bytes, CopyKind, int) { std::memcpy(to, from, bytes); },
        .zero = [](void* p, std::size_t bytes, int) { std::memset(p, 0, bytes); },
        .synchronize = [](int) {},
        .stats = [](int) { return cpu_allocator().stats(); },
        .reset_peak = [](int) { cpu_allocator().reset_peak(); },
        .release_cache = [](int) { cpu_allocator().release_cache(); },
    };
    return table;
}

/// Says that a build has no CUDA backend; never returns.
[[noreturn]] inline void no_cuda(const char* op) {
    fail(ErrorCode::usage, op,
         "cuda is not part of this build; hint: configure with -DBF_CUDA=ON (or device = \"cpu\")");
}

#ifdef BF_HAVE_CUDA
/// Memory of NVIDIA GPUs; comes with bf::cuda.
const DeviceMemory& cuda_memory();
#endif

/// The memory table of a device. Throws a usage Error if the device is not part of this build.
inline const DeviceMemory& device_memory(Device device) {
    if (device.type == DeviceType::cpu) return cpu_memory();
#ifdef BF_HAVE_CUDA
    return cuda_memory();
#else
    no_cuda("memory");
#endif
}

}  // namespace bf
