#include "memory.hpp"

#include <array>
#include <memory>

#include "bf/kernels/dispatch.hpp"
#include "caching_allocator.hpp"
#include "per_device.hpp"
#include "pinned.hpp"
#include "staging.hpp"

namespace bf {
namespace cuda {
namespace {

/// The raw memory of one GPU, for CachingAllocator.
struct DeviceRaw {
    using Stream = cudaStream_t;
    int device;

    // The device is current: memory_of() made it so in the caller.
    void* allocate(std::size_t bytes) {
        void* p = nullptr;
        const cudaError_t status = cudaMalloc(&p, bytes);
        if (status == cudaErrorMemoryAllocation) {
            static_cast<void>(cudaGetLastError());  // it is handled here: no later check may find it
            return nullptr;
        }
        check_status(status, "cudaMalloc(&p, bytes)", concat("bytes ", bytes, " on device ", device));
        return p;
    }
    void free(void* p, std::size_t bytes) { BF_CUDA(cudaFree(p), "bytes ", bytes); }
    std::size_t free_bytes() {
        std::size_t free = 0, total = 0;
        BF_CUDA(cudaMemGetInfo(&free, &total));
        return free;
    }
    void order(cudaStream_t from, cudaStream_t to) { order_streams(from, to); }
    void wait() { BF_CUDA(cudaDeviceSynchronize()); }
};

/// Pinned buffers on the way to one GPU: 4 of 4 MiB, so that the host fills one while others travel.
class PinnedLink {
  public:
    explicit PinnedLink(cudaStream_t stream)
        : stream_(stream), memory_(static_cast<char*>(pinned_allocator().allocate(count * size))) {
        for (EventHandle& e : sent_) e = make_event();
    }
    int slots() const { return count; }
    std::size_t slot_bytes() const { return size; }
    char* buffer(int slot) const { return memory_ + static_cast<std::size_t>(slot) * size; }
    // An event that was never recorded counts as passed.
    void wait(int slot) { BF_CUDA(cudaEventSynchronize(sent_[static_cast<std::size_t>(slot)].get())); }
    void start(int slot, void* to, std::size_t bytes) {
        BF_CUDA(cudaMemcpyAsync(to, buffer(slot), bytes, cudaMemcpyHostToDevice, stream_), "bytes ", bytes);
        BF_CUDA(cudaEventRecord(sent_[static_cast<std::size_t>(slot)].get(), stream_));
    }

  private:
    static constexpr int count = 4;
    static constexpr std::size_t size = std::size_t{4} << 20;
    cudaStream_t stream_;
    char* memory_;  // kept as long as the ring, which is to the end of the program
    std::array<EventHandle, count> sent_;
};

struct Memory {
    explicit Memory(const Backend& b)
        : backend(b), stream(b.stream), blocks(DeviceRaw{b.device}), ring(PinnedLink(b.stream)) {}
    const Backend& backend;
    cudaStream_t stream;
    CachingAllocator<DeviceRaw> blocks;
    StagingRing<PinnedLink> ring;
};

PerDevice<Memory>& memories() {
    static auto* all = new PerDevice<Memory>;
    return *all;
}
// Makes the GPU current for this thread.
Memory& memory_of(int index) {
    const Backend& b = backend(cuda_context(index));
    return memories().get(index, [&] { return std::make_unique<Memory>(b); });
}

constexpr const char* copy_hint = "copy before the capture or behind launch(), or copy_queued() with a pinned tensor";

void copy(void* to, const void* from, std::size_t bytes, CopyKind kind, int index) {
    if (bytes == 0) return;
    Memory& m = memory_of(index);
    switch (kind) {
        case CopyKind::to_device:
            refuse_in_capture(m.backend, "copy", "a copy from host memory", copy_hint);
            m.ring.send(to, from, bytes);
            break;
        case CopyKind::to_host:
            refuse_in_capture(m.backend, "copy", "a copy to host memory", copy_hint);
            BF_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, m.stream), "bytes ", bytes);
            BF_CUDA(cudaStreamSynchronize(m.stream), "bytes ", bytes, " to the host");
            break;
        case CopyKind::on_device:
            BF_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, m.stream), "bytes ", bytes);
            break;
    }
}

void zero(void* p, std::size_t bytes, int index) {
    if (bytes == 0) return;
    BF_CUDA(cudaMemsetAsync(p, 0, bytes, memory_of(index).stream), "bytes ", bytes);
}

}  // namespace

int open_pool(int index) { return memory_of(index).blocks.open_pool(); }
void close_pool(int index) { memory_of(index).blocks.close_pool(); }
void drop_pool(int pool, int index) {
    if (Memory* m = memories().find(index)) m->blocks.drop_pool(pool);
}

}  // namespace cuda

const DeviceMemory& cuda_memory() {
    using namespace cuda;
    static const DeviceMemory table{
        .allocate =
            [](std::size_t bytes, int index) {
                Memory& m = memory_of(index);
                return m.blocks.allocate(bytes, m.stream);
            },
        // Calls nothing of CUDA: a storage may die in a destructor, after an error that stays, or after main.
        .deallocate =
            [](void* p, std::size_t, int index) {
                if (Memory* m = memories().find(index)) m->blocks.deallocate(p, m->stream);
            },
        .copy = copy,
        .zero = zero,
        .synchronize =
            [](int index) {
                const Memory& m = memory_of(index);
                refuse_in_capture(m.backend, "synchronize", "a wait of the host", "wait behind launch()");
                BF_CUDA(cudaStreamSynchronize(m.stream), "device ", index);
            },
        .stats = [](int index) { return memory_of(index).blocks.stats(); },
        .reset_peak = [](int index) { memory_of(index).blocks.reset_peak(); },
        .release_cache =
            [](int index) {
                Memory& m = memory_of(index);
                refuse_in_capture(m.backend, "release_cache", "a wait for the device", "release before the capture");
                m.blocks.release_cache();
                pinned_allocator().release_cache();
            },
    };
    return table;
}

}  // namespace bf
