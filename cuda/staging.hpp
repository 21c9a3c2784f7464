#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>

// No CUDA in here: the tests run the ring on the CPU.

namespace bf::cuda {

/// Sends pageable host memory to a device through a ring of pinned buffers: the caller may overwrite its memory as soon
/// as send() returns, while the transfer itself is still queued. Thread-safe.
///
/// Link: `int slots()`, `std::size_t slot_bytes()`, `char* buffer(slot)`, `void wait(slot)` (until the transfer last
/// started from the slot has ended; at once when there was none), `void start(slot, to, bytes)` (queues it).
template <class Link>
class StagingRing {
  public:
    explicit StagingRing(Link link) : link_(std::move(link)) {}

    void send(void* to, const void* from, std::size_t bytes) {
        std::lock_guard lock(mutex_);
        for (std::size_t done = 0; done < bytes;) {
            const std::size_t part = std::min(bytes - done, link_.slot_bytes());
            link_.wait(slot_);
            std::memcpy(link_.buffer(slot_), static_cast<const char*>(from) + done, part);
            link_.start(slot_, static_cast<char*>(to) + done, part);
            slot_ = (slot_ + 1) % link_.slots();
            done += part;
        }
    }

  private:
    Link link_;
    std::mutex mutex_;
    int slot_ = 0;
};

}  // namespace bf::cuda
