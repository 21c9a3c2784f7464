#pragma once
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "bf/core/device_runtime.hpp"
#include "emulated.hpp"

// The emulated device: what is queued on it is kept as closures and run as late as the host allows. Closures hold raw
// pointers, as launches on a GPU do, so that a lifetime that ends too early is seen (by AddressSanitizer, or as NaN).

namespace bf::emulated {

using Work = std::function<void()>;

/// Work kept by a capture, and the memory that must live as long as it.
struct Graph {
    std::vector<Work> work;
    std::vector<void*> held;  ///< blocks that were given back, by the host, and are freed with the graph
    bool destroyed = false;
};

/// A place in a lane: the event has passed when the lane has run that much.
struct EventPoint {
    Lane lane = Lane::compute;
    std::uint64_t place = 0;
    std::shared_ptr<Graph> captured;  ///< recorded inside a capture: nothing outside it may look at the event
};

/// One device. Every public function may be called from any thread; work runs on the thread that waits for it.
class Machine {
  public:
    static constexpr int device_count = 1;

    void* allocate(std::size_t bytes);
    void deallocate(void* p);
    MemoryStats stats() const;
    void reset_peak();
    void release_cache();
    void* pin(std::size_t bytes);
    void unpin(void* p);

    /// Queues a kernel on `compute`.
    void launch(Work work);
    void copy(void* to, const void* from, std::size_t bytes, CopyKind kind);
    void copy_queued(void* to, const void* from, std::size_t bytes, CopyKind kind, Lane lane);
    void zero(void* p, std::size_t bytes);
    void synchronize();

    void record(EventPoint& event, Lane lane);
    void order(const EventPoint& event, Lane lane);
    bool passed(EventPoint& event);
    void synchronize(const EventPoint& event);

    void begin_capture();
    std::shared_ptr<Graph> end_capture();
    void abort_capture() noexcept;
    void launch(const std::shared_ptr<Graph>& graph);
    void destroy(const std::shared_ptr<Graph>& graph);

    void forget_error();
    Counters counters() const;

  private:
    using Lock = std::lock_guard<std::recursive_mutex>;
    struct Block {
        std::size_t bytes;
        std::shared_ptr<Graph> graph;  ///< the capture that it was allocated in
    };
    struct Queue {
        std::deque<Work> items;
        std::uint64_t done = 0;
        std::uint64_t end() const { return done + items.size(); }
    };

    Queue& queue(Lane lane) { return queues_[lane == Lane::compute ? 0 : 1]; }
    void push(Lane lane, Work work);  // into the capture where there is one
    void push_now(Lane lane, Work work);
    void run(Lane lane, std::uint64_t place);
    void wait(Lane lane, std::uint64_t place);
    void refuse_in_capture(const char* what);
    void refuse_captured(const EventPoint& event, const char* what);
    void release(void* p);
    void let_go(Graph& graph);

    mutable std::recursive_mutex mutex_;
    Queue queues_[2];
    std::size_t held_ = 0;      ///< bytes of releases that are queued
    std::exception_ptr error_;  ///< the first one of a closure
    std::map<void*, Block> blocks_;
    std::map<const char*, std::size_t> pinned_;
    std::map<std::size_t, std::size_t> cached_;  ///< how many blocks of a size a caching allocator would hold
    std::shared_ptr<Graph> capture_;
    bool capture_broken_ = false;
    MemoryStats stats_;
    Counters counters_;
};

/// The machine behind a number; any other than 0 is the usage Error of a GPU that is not there.
Machine& machine(int index);

}  // namespace bf::emulated
