#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "bf/core/cpu_allocator.hpp"

// No CUDA in here: the raw memory and its streams are a policy, so that the tests run the allocator on the CPU.

namespace bf::cuda {

/// "1.50 GiB (1610612736 bytes)".
inline std::string bytes_text(std::size_t bytes) {
    char text[64];
    const double mib = static_cast<double>(bytes) / (1 << 20);
    std::snprintf(text, sizeof text, mib < 1024 ? "%.2f MiB" : "%.2f GiB", mib < 1024 ? mib : mib / 1024);
    return concat(text, " (", bytes, " bytes)");
}

/// Caching allocator over raw memory with streams. Freed memory stays in its segment (what one raw allocation gave) and
/// is handed out again by best fit; neighbours that are free join. Thread-safe.
///
/// A block belongs to a stream: work queued there before the block was freed ends before work queued there after it was
/// handed out again, so the same stream gets it at once. Another stream gets it only when the device has no memory
/// left, and then waits for the first one's work by `Raw::order`.
///
/// Sizes are multiples of 512 bytes. Requests up to 1 MiB share segments of 2 MiB of their own, so that a small tensor
/// that lives long pins no large segment; up to 10 MiB they share segments of 20 MiB; larger ones get a segment rounded
/// up to 2 MiB, which is split when a smaller request takes it and more than 1 MiB would be left.
///
/// Pools, for captured graphs, which use the same addresses again at every launch: from open_pool() to close_pool() all
/// memory comes from segments that belong to the pool. They are ordinary segments of which nothing is in use, of the
/// same stream, or new ones; what is freed meanwhile is handed out again within the pool. After close_pool() nothing of
/// the pool is handed out to anyone, even when it is freed, until drop_pool() makes its segments ordinary ones again.
///
/// Raw: `Stream` (ordered, copyable), `void* allocate(bytes)` (null: no memory left), `void free(p, bytes)`,
/// `std::size_t free_bytes()`, `void order(from, to)` (what is queued on `to` from now on waits for what is queued on
/// `from` so far), `void wait()` (for all streams). What they throw passes through and leaves the allocator intact.
template <class Raw>
class CachingAllocator {
  public:
    using Stream = typename Raw::Stream;

    explicit CachingAllocator(Raw raw = {}) : raw_(std::move(raw)) {}
    CachingAllocator(const CachingAllocator&) = delete;
    CachingAllocator& operator=(const CachingAllocator&) = delete;

    /// Memory for use on `stream`, aligned to 512 bytes. Throws a runtime Error when the device has no memory left even
    /// after the cache was given back (which needs a wait for the device, so not while a pool is open).
    void* allocate(std::size_t bytes, Stream stream) {
        std::lock_guard lock(mutex_);
        const std::size_t size = round_up(bytes ? bytes : 1, unit);
        if (size < bytes) out_of_memory(bytes);
        const bool small = size <= small_limit;
        auto block = best_fit(small, stream, size);
        if (block == blocks_.end() && open_) block = move_segment(small, stream, size);
        if (block == blocks_.end()) block = new_segment(small, stream, size);
        if (block == blocks_.end() && !open_) block = take_over(small, stream, size);
        if (block == blocks_.end() && !open_) {
            release_locked();
            block = new_segment(small, stream, size);
        }
        if (block == blocks_.end()) out_of_memory(size);
        split(block, size);
        free_.erase(key(block));
        block->second.free = false;
        stats_.cached -= block->second.size;
        hold(block->second.size);
        return block->first;
    }

    /// Gives a block back. `stream` is the one on which its last use was queued; that work need not have ended.
    void deallocate(void* p, Stream stream) {
        std::lock_guard lock(mutex_);
        auto block = blocks_.find(static_cast<char*>(p));
        if (block == blocks_.end() || block->second.free)
            fail(ErrorCode::runtime, "deallocate", "not a live block of this device; got ", p);
        block->second.free = true;
        block->second.stream = stream;
        if (!held(block)) {
            stats_.in_use -= block->second.size;
            stats_.cached += block->second.size;
        }
        const auto next = std::next(block);
        if (joins(block, next)) absorb(block, next);
        if (block != blocks_.begin()) {
            const auto previous = std::prev(block);
            if (joins(previous, block)) {
                absorb(previous, block);
                block = previous;
            }
        }
        free_.insert(key(block));
    }

    /// Starts a pool; its number. One can be open at a time.
    int open_pool() {
        std::lock_guard lock(mutex_);
        if (open_) fail(ErrorCode::runtime, "graph", "a capture is in progress on this device; hint: end it first");
        return open_ = ++last_pool_;
    }
    /// From here on memory is ordinary again, and all of the pool counts as in use.
    void close_pool() {
        std::lock_guard lock(mutex_);
        for (const auto& [start, block] : blocks_)
            if (open_ && block.pool == open_ && block.free) {
                stats_.cached -= block.size;
                hold(block.size);
            }
        open_ = 0;
    }
    /// Gives the segments of a pool, closed or open, back to the cache; blocks of it that live become ordinary ones.
    void drop_pool(int pool) {
        std::lock_guard lock(mutex_);
        for (At b = blocks_.begin(); b != blocks_.end(); ++b) {
            if (b->second.pool != pool) continue;
            if (!b->second.free) {
                b->second.pool = 0;
                continue;
            }
            if (held(b)) {
                stats_.in_use -= b->second.size;
                stats_.cached += b->second.size;
            }
            free_.erase(key(b));
            b->second.pool = 0;
            free_.insert(key(b));
        }
        if (open_ == pool) open_ = 0;
    }

    /// `cached` counts the free parts of segments; `system_calls` the raw allocations that gave memory. A closed pool
    /// is in use as a whole.
    MemoryStats stats() const {
        std::lock_guard lock(mutex_);
        return stats_;
    }
    void reset_peak() {
        std::lock_guard lock(mutex_);
        stats_.peak = stats_.in_use;
    }
    /// Bytes of the largest block that can be handed out.
    std::size_t largest_cached() const {
        std::lock_guard lock(mutex_);
        return largest_locked();
    }
    /// Waits for the device and gives back every segment of which nothing is in use. Pools keep theirs.
    void release_cache() {
        std::lock_guard lock(mutex_);
        release_locked();
    }

  private:
    static constexpr std::size_t unit = 512, mib = std::size_t{1} << 20, small_limit = mib;

    struct Block {
        std::size_t size;
        char* segment;  // start of the raw allocation
        Stream stream;
        int pool;  // 0: none
        bool small, free;
    };
    using Blocks = std::map<char*, Block>;  // by address: neighbours of a segment follow each other
    using At = typename Blocks::iterator;
    using Key = std::tuple<int, bool, Stream, std::size_t, char*>;

    static std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }
    static Key key(At b) { return {b->second.pool, b->second.small, b->second.stream, b->second.size, b->first}; }
    // True for what a closed pool holds, in use or not.
    bool held(At b) const { return b->second.pool != 0 && b->second.pool != open_; }
    void hold(std::size_t bytes) {
        stats_.in_use += bytes;
        stats_.peak = std::max(stats_.peak, stats_.in_use);
    }
    static std::size_t segment_size(bool small, std::size_t size) {
        return small ? 2 * mib : size < 10 * mib ? 20 * mib : round_up(size, 2 * mib);
    }

    At best_fit(bool small, Stream stream, std::size_t size) {
        const auto it = free_.lower_bound(Key{open_, small, stream, size, nullptr});
        if (it == free_.end() || std::get<0>(*it) != open_ || std::get<1>(*it) != small || std::get<2>(*it) != stream)
            return blocks_.end();
        return blocks_.find(std::get<4>(*it));
    }
    // Moves the smallest ordinary segment that will do, and of which nothing is in use, into the open pool: memory that
    // the steps before a capture have left. What they queued on the stream ends before a launch on it begins.
    At move_segment(bool small, Stream stream, std::size_t size) {
        for (auto it = free_.lower_bound(Key{0, small, stream, size, nullptr}); it != free_.end(); ++it) {
            if (std::get<0>(*it) != 0 || std::get<1>(*it) != small || std::get<2>(*it) != stream) break;
            const At b = blocks_.find(std::get<4>(*it));
            if (!is_segment(b)) continue;
            free_.erase(it);
            b->second.pool = open_;
            free_.insert(key(b));
            return b;
        }
        return blocks_.end();
    }
    // True when the block is all of its segment.
    bool is_segment(At b) const {
        const auto after = std::next(b);
        return b->first == b->second.segment && (after == blocks_.end() || after->second.segment != b->second.segment);
    }
    At new_segment(bool small, Stream stream, std::size_t size) {
        std::size_t bytes = segment_size(small, size);
        if (bytes < size) return blocks_.end();
        void* p = raw_.allocate(bytes);
        if (!p && bytes > size) p = raw_.allocate(bytes = size);  // near the limit a segment holds the request alone
        if (!p) return blocks_.end();
        ++stats_.system_calls;
        stats_.cached += bytes;
        char* start = static_cast<char*>(p);
        const At block = blocks_.insert({start, {bytes, start, stream, open_, small, true}}).first;
        free_.insert(key(block));
        return block;
    }
    // The best fit among the blocks of other streams.
    At take_over(bool small, Stream stream, std::size_t size) {
        At best = blocks_.end();
        for (At b = blocks_.begin(); b != blocks_.end(); ++b)
            if (b->second.free && b->second.pool == 0 && b->second.small == small && b->second.stream != stream &&
                b->second.size >= size && (best == blocks_.end() || b->second.size < best->second.size))
                best = b;
        if (best == blocks_.end()) return best;
        raw_.order(best->second.stream, stream);
        free_.erase(key(best));
        best->second.stream = stream;
        free_.insert(key(best));
        return best;
    }
    // Cuts a free block down to `size` when the rest is of use.
    void split(At block, std::size_t size) {
        Block& b = block->second;
        const std::size_t rest = b.size - size;
        if (rest < (b.small ? unit : mib + 1)) return;
        free_.erase(key(block));
        const At tail = blocks_.insert({block->first + size, {rest, b.segment, b.stream, b.pool, b.small, true}}).first;
        b.size = size;
        free_.insert(key(block));
        free_.insert(key(tail));
    }
    bool joins(At a, At b) const {
        return b != blocks_.end() && a->second.free && b->second.free && a->second.segment == b->second.segment &&
               a->second.stream == b->second.stream;
    }
    // Joins b to a; neither is in free_ under its new size afterwards.
    void absorb(At a, At b) {
        free_.erase(key(a));
        free_.erase(key(b));
        a->second.size += b->second.size;
        blocks_.erase(b);
    }
    void release_locked() {
        if (stats_.cached == 0) return;
        raw_.wait();  // after it no stream has a claim on a free block
        for (At b = blocks_.begin(); b != blocks_.end();) {
            if (!b->second.free || b->second.pool != 0) {
                ++b;
                continue;
            }
            for (At next = std::next(b);
                 next != blocks_.end() && next->second.free && next->second.segment == b->second.segment;
                 next = std::next(b))
                absorb(b, next);
            const At after = std::next(b);
            free_.erase(key(b));
            if (!is_segment(b)) {
                free_.insert(key(b));
                b = after;
                continue;
            }
            stats_.cached -= b->second.size;
            char* start = b->first;
            const std::size_t size = b->second.size;
            blocks_.erase(b);
            b = after;
            raw_.free(start, size);
        }
    }
    std::size_t largest_locked() const {
        std::size_t largest = 0;
        for (const Key& k : free_)
            if (std::get<0>(k) == open_) largest = std::max(largest, std::get<3>(k));
        return largest;
    }
    [[noreturn]] void out_of_memory(std::size_t size) {
        fail(ErrorCode::runtime, "allocate", "the GPU is out of memory; wanted ", bytes_text(size), ", free ",
             bytes_text(raw_.free_bytes()), ", in use ", bytes_text(stats_.in_use), ", cached ",
             bytes_text(stats_.cached), ", largest cached block ", bytes_text(largest_locked()),
             open_ ? "; hint: release_cache() before the capture; else a smaller batch, queue or network"
                   : "; hint: a smaller batch, queue or network; nvidia-smi shows other programs on this GPU");
    }

    Raw raw_;
    mutable std::mutex mutex_;
    Blocks blocks_;
    std::set<Key> free_;
    MemoryStats stats_;
    int open_ = 0, last_pool_ = 0;
};

}  // namespace bf::cuda
