#pragma once
#include "bf/core/cpu_allocator.hpp"
#include "handle.hpp"

namespace bf::cuda {

/// Page-locked host memory, which any GPU reads and writes by itself while the host goes on; for HostAllocator.
struct PinnedMemory {
    static constexpr const char* name = "pinned host memory";
    static void* allocate(std::size_t bytes) {
        void* p = nullptr;
        const cudaError_t status = cudaHostAlloc(&p, bytes, cudaHostAllocPortable);
        if (status == cudaErrorMemoryAllocation) {
            static_cast<void>(cudaGetLastError());  // it is handled here: no later check may find it
            return nullptr;
        }
        check_status(status, "cudaHostAlloc(&p, bytes)", concat("bytes ", bytes));
        return p;
    }
    static void free(void* p) { BF_CUDA(cudaFreeHost(p)); }
};

/// The pinned memory of this process. Locking pages takes the driver long and waits for the device, so that freed
/// memory is kept: a buffer a step costs nothing after the first. Never destroyed, as the backends are not.
inline HostAllocator<PinnedMemory>& pinned_allocator() {
    static auto* allocator = new HostAllocator<PinnedMemory>;
    return *allocator;
}

}  // namespace bf::cuda
