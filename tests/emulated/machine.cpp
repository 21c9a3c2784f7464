#include "machine.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

namespace bf::emulated {
namespace {

/// Bytes of a NaN in every float type, and of no sensible integer: what nobody wrote shows.
constexpr int nothing = 0xFF;

/// A queue that is longer, or whose releases hold more, makes the host wait, as a full one does on a GPU.
constexpr std::size_t longest_queue = 1 << 16, most_held = std::size_t{512} << 20;

void* raw_memory(std::size_t bytes) {
    void* p = nullptr;
    // the size is not rounded up, so that a sanitizer sees the first byte behind a tensor
    if (posix_memalign(&p, 64, bytes ? bytes : 1) != 0)
        fail(ErrorCode::runtime, "allocate", "the emulated device is out of memory; wanted ", bytes, " bytes");
    std::memset(p, nothing, bytes);
    return p;
}
void free_memory(void* p, std::size_t bytes) {
    std::memset(p, nothing, bytes);
    std::free(p);
}

}  // namespace

// ---- lanes

void Machine::push(Lane lane, Work work) {
    if (capture_ && lane == Lane::compute)
        capture_->work.push_back(std::move(work));
    else
        push_now(lane, std::move(work));
}
void Machine::push_now(Lane lane, Work work) {
    Queue& q = queue(lane);
    q.items.push_back(std::move(work));
    while (q.items.size() > longest_queue || (held_ > most_held && !q.items.empty())) run(lane, q.done + 1);
}

/// Runs a lane up to a place. What a closure throws is kept: from then on every wait of the host throws it, as on a
/// GPU.
void Machine::run(Lane lane, std::uint64_t place) {
    Queue& q = queue(lane);
    while (q.done < place) {
        const Work work = std::move(q.items.front());
        q.items.pop_front();
        try {
            work();
        } catch (...) {
            if (!error_) error_ = std::current_exception();
        }
        ++q.done;
    }
}

void Machine::wait(Lane lane, std::uint64_t place) {
    ++counters_.host_waits;
    run(lane, place);
    if (error_) std::rethrow_exception(error_);
}

void Machine::launch(Work work) {
    const Lock lock(mutex_);
    if (!capture_) ++counters_.launches;
    push(Lane::compute, std::move(work));
}

void Machine::zero(void* p, std::size_t bytes) {
    const Lock lock(mutex_);
    push(Lane::compute, [=] { std::memset(p, 0, bytes); });
}

void Machine::copy(void* to, const void* from, std::size_t bytes, CopyKind kind) {
    const Lock lock(mutex_);
    switch (kind) {
        case CopyKind::to_device: {
            refuse_in_capture("a copy from pageable host memory");
            const char* bytes_of = static_cast<const char*>(from);
            push(Lane::compute, [to, now = std::vector<char>(bytes_of, bytes_of + bytes)] {
                std::memcpy(to, now.data(), now.size());
            });
            break;
        }
        case CopyKind::to_host:
            refuse_in_capture("a copy to the host");
            push(Lane::compute, [=] { std::memcpy(to, from, bytes); });
            wait(Lane::compute, queue(Lane::compute).end());
            break;
        case CopyKind::on_device: push(Lane::compute, [=] { std::memcpy(to, from, bytes); }); break;
    }
}

void Machine::copy_queued(void* to, const void* from, std::size_t bytes, CopyKind kind, Lane lane) {
    const Lock lock(mutex_);
    if (kind != CopyKind::on_device) {
        const char* host = static_cast<const char*>(kind == CopyKind::to_device ? from : to);
        const auto next = pinned_.upper_bound(host);
        const bool inside = next != pinned_.begin() && host + bytes <= std::prev(next)->first + std::prev(next)->second;
        BF_CHECK(inside, "copy", "the host side of a queued copy is pinned memory; got ", bytes, " bytes elsewhere");
    }
    push(lane, [=] { std::memcpy(to, from, bytes); });
}

void Machine::synchronize() {
    const Lock lock(mutex_);
    refuse_in_capture("a wait for the device");
    wait(Lane::compute, queue(Lane::compute).end());
}

// ---- events

void Machine::record(EventPoint& event, Lane lane) {
    const Lock lock(mutex_);
    event = {lane, queue(lane).end(), lane == Lane::compute ? capture_ : nullptr};
}

void Machine::order(const EventPoint& event, Lane lane) {
    const Lock lock(mutex_);
    if (capture_ && lane == Lane::compute && event.captured == capture_) return;  // a graph runs in order
    refuse_captured(event, "a lane waits for it");
    if (capture_ && lane == Lane::compute) refuse_in_capture("a wait for work outside of it");
    if (event.lane == lane) return;  // a lane runs in order
    push(lane, [this, from = event.lane, place = event.place] { run(from, place); });
}

/// The first look at work that was not waited for finds it unfinished, the second finished: as late as can be, yet a
/// host that asks again and again gets on.
bool Machine::passed(EventPoint& event) {
    const Lock lock(mutex_);
    refuse_captured(event, "the host looks at it");
    if (queue(event.lane).done >= event.place) return true;
    if (!capture_) run(event.lane, event.place);
    return false;
}

void Machine::synchronize(const EventPoint& event) {
    const Lock lock(mutex_);
    refuse_in_capture("a wait for an event");
    refuse_captured(event, "the host waits for it");
    if (queue(event.lane).done < event.place) wait(event.lane, event.place);
    if (error_) std::rethrow_exception(error_);
}

// ---- graphs

/// What CUDA refuses breaks the capture: it cannot be ended any more.
void Machine::refuse_in_capture(const char* what) {
    if (!capture_) return;
    capture_broken_ = true;
    fail(ErrorCode::runtime, "graph", what, " stands in a capture; hint: do it before or after");
}
void Machine::refuse_captured(const EventPoint& event, const char* what) {
    if (!event.captured) return;
    if (capture_) capture_broken_ = true;
    fail(ErrorCode::runtime, "event", "recorded in a capture, and ", what, "; hint: record it behind the launch");
}

void Machine::begin_capture() {
    const Lock lock(mutex_);
    refuse_in_capture("the beginning of a capture");
    capture_ = std::make_shared<Graph>();
    capture_broken_ = false;
}

std::shared_ptr<Graph> Machine::end_capture() {
    const Lock lock(mutex_);
    BF_CHECK(capture_, "graph", "no capture to end");
    const std::shared_ptr<Graph> graph = std::exchange(capture_, nullptr);
    if (!capture_broken_) return graph;
    let_go(*graph);
    fail(ErrorCode::runtime, "graph", "the capture was broken by what it cannot hold");
}

void Machine::abort_capture() noexcept {
    const Lock lock(mutex_);
    if (const std::shared_ptr<Graph> graph = std::exchange(capture_, nullptr)) let_go(*graph);
}

void Machine::launch(const std::shared_ptr<Graph>& graph) {
    const Lock lock(mutex_);
    refuse_in_capture("the launch of a graph");
    ++counters_.graph_launches;
    push(Lane::compute, [graph] {
        if (graph->destroyed)
            fail(ErrorCode::runtime, "graph", "destroyed while a launch was queued; hint: wait for its work first");
        for (const Work& work : graph->work) work();
    });
}

void Machine::destroy(const std::shared_ptr<Graph>& graph) {
    const Lock lock(mutex_);
    let_go(*graph);
}

/// Its memory is free again: at once for the host, behind what is queued for the device.
void Machine::let_go(Graph& graph) {
    graph.destroyed = true;
    for (void* p : graph.held) release(p);
    graph.held.clear();
    graph.work.clear();
}

// ---- memory

void* Machine::allocate(std::size_t bytes) {
    const Lock lock(mutex_);
    void* p = raw_memory(bytes);
    blocks_[p] = {bytes, capture_};
    // a graph's memory is shared by what does not live at the same time: each launch finds it overwritten
    if (capture_) push(Lane::compute, [=] { std::memset(p, nothing, bytes); });
    std::size_t& cached = cached_[bytes];
    if (cached > 0) {
        --cached;
        stats_.cached -= bytes;
    } else {
        ++stats_.system_calls;
    }
    stats_.in_use += bytes;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return p;
}

void Machine::deallocate(void* p) {
    const Lock lock(mutex_);
    const auto it = blocks_.find(p);
    BF_CHECK(it != blocks_.end(), "deallocate", "not a live block of the emulated device");
    const Block& block = it->second;
    stats_.in_use -= block.bytes;
    if (capture_) {
        push(Lane::compute, [p, bytes = block.bytes] { std::memset(p, nothing, bytes); });
        capture_->held.push_back(p);
    } else if (block.graph && !block.graph->destroyed) {
        block.graph->held.push_back(p);
    } else {
        release(p);
    }
}

/// Frees a block that the host gave back, behind the work that is queued.
void Machine::release(void* p) {
    const auto block = blocks_.extract(p);
    const std::size_t bytes = block.mapped().bytes;
    ++cached_[bytes];
    stats_.cached += bytes;
    held_ += bytes;
    push_now(Lane::compute, [=, this] {
        held_ -= bytes;
        free_memory(p, bytes);
    });
}

MemoryStats Machine::stats() const {
    const Lock lock(mutex_);
    return stats_;
}
void Machine::reset_peak() {
    const Lock lock(mutex_);
    stats_.peak = stats_.in_use;
}
void Machine::release_cache() {
    const Lock lock(mutex_);
    if (stats_.cached == 0) return;
    refuse_in_capture("the release of cached memory");
    wait(Lane::compute, queue(Lane::compute).end());
    cached_.clear();
    stats_.cached = 0;
}

void* Machine::pin(std::size_t bytes) {
    const Lock lock(mutex_);
    void* p = raw_memory(bytes);
    pinned_[static_cast<const char*>(p)] = bytes;
    return p;
}
/// At once: a copy that is still queued finds freed memory.
void Machine::unpin(void* p) {
    const Lock lock(mutex_);
    const auto block = pinned_.extract(static_cast<const char*>(p));
    BF_CHECK(!block.empty(), "unpin", "not pinned memory");
    free_memory(p, block.mapped());
}

void Machine::forget_error() {
    const Lock lock(mutex_);
    error_ = nullptr;
}

Counters Machine::counters() const {
    const Lock lock(mutex_);
    return counters_;
}

Machine& machine(int index) {
    // never destroyed: tensors of static storage duration may outlive main
    static auto* the = new Machine;
    static const bool hidden = [] {
        const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
        return visible && !*visible;
    }();
    const int count = hidden ? 0 : Machine::device_count;
    BF_CHECK(index >= 0 && index < count, "device", "cuda:", index, " is not there; this process sees ", count,
             count == 1 ? " GPU" : " GPUs", " (emulated on the cpu)", "; hint: device = \"cpu\" needs no GPU");
    return *the;
}

Counters counters() { return machine(0).counters(); }
void forget_error() { machine(0).forget_error(); }

}  // namespace bf::emulated
