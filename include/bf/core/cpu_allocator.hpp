#pragma once
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// Byte counters of a device's caching allocator.
struct MemoryStats {
    std::size_t in_use = 0;        ///< bytes held by live storages
    std::size_t peak = 0;          ///< largest in_use since reset_peak()
    std::size_t cached = 0;        ///< bytes kept for reuse
    std::size_t system_calls = 0;  ///< allocations that went to the system; constant after warm-up
};

/// Caching allocator of host memory: freed blocks are kept by size class. Thread-safe.
/// Raw: `name`, `static void* allocate(bytes)` (null: no memory left), `static void free(p)`.
template <class Raw>
class HostAllocator {
  public:
    ~HostAllocator() { release_cache(); }

    void* allocate(std::size_t bytes) {
        const std::size_t size = size_class(bytes);
        std::lock_guard lock(mutex_);
        void* p = nullptr;
        if (auto it = free_.find(size); it != free_.end() && !it->second.empty()) {
            p = it->second.back();
            it->second.pop_back();
            stats_.cached -= size;
        } else {
            p = Raw::allocate(size);
            if (!p) {
                release_locked();
                p = Raw::allocate(size);
            }
            if (!p)
                fail(ErrorCode::runtime, "allocate", "out of ", Raw::name, "; wanted ", size, " bytes, in use ",
                     stats_.in_use, " bytes; hint: a smaller batch, queue or network");
            ++stats_.system_calls;
        }
        stats_.in_use += size;
        if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
        return p;
    }
    void deallocate(void* p, std::size_t bytes) {
        const std::size_t size = size_class(bytes);
        std::lock_guard lock(mutex_);
        stats_.in_use -= size;
        stats_.cached += size;
        free_[size].push_back(p);
    }
    MemoryStats stats() const {
        std::lock_guard lock(mutex_);
        return stats_;
    }
    void reset_peak() {
        std::lock_guard lock(mutex_);
        stats_.peak = stats_.in_use;
    }
    /// Gives cached blocks back to the system.
    void release_cache() {
        std::lock_guard lock(mutex_);
        release_locked();
    }

  private:
    // Eight classes per power of two: at most 12.5 % of a block is unused.
    static std::size_t size_class(std::size_t bytes) {
        if (bytes <= 512) return bytes <= 64 ? 64 : (bytes + 63) / 64 * 64;
        std::size_t power = 512;
        while (power * 2 <= bytes) power *= 2;
        const std::size_t step = power / 8;
        return (bytes + step - 1) / step * step;
    }
    void release_locked() {
        for (auto& [size, blocks] : free_)
            for (; !blocks.empty(); stats_.cached -= size) {
                Raw::free(blocks.back());
                blocks.pop_back();
            }
        free_.clear();
    }

    mutable std::mutex mutex_;
    std::map<std::size_t, std::vector<void*>> free_;
    MemoryStats stats_;
};

/// Pageable memory, aligned to 64 bytes; from 4 MiB on in pages of 2 MiB where the system has them: batches and
/// activations are gone through once a pass, and with small pages the look-ups of their places take a fifth of that.
struct PageableMemory {
    static constexpr const char* name = "memory";
    static void* allocate(std::size_t bytes) {
#ifdef MADV_HUGEPAGE
        constexpr std::size_t page = std::size_t{2} << 20;
        if (bytes >= 2 * page) {
            bytes = (bytes + page - 1) / page * page;
            void* p = std::aligned_alloc(page, bytes);
            if (p) ::madvise(p, bytes, MADV_HUGEPAGE);  // advice: a system without such pages goes on as before
            return p;
        }
#endif
        return std::aligned_alloc(64, bytes);
    }
    static void free(void* p) { std::free(p); }
};
using CpuAllocator = HostAllocator<PageableMemory>;

/// The host allocator. It is never destroyed, so that tensors of static storage duration may outlive main.
inline CpuAllocator& cpu_allocator() {
    static auto* allocator = new CpuAllocator;
    return *allocator;
}

}  // namespace bf
