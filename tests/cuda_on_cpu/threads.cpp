// The threads of a kernel's block, as fibers of one CPU thread: each runs until it waits at a barrier. A thread that
// waits nowhere takes no switch at all, as its fiber goes on with the next one.
#ifdef BF_CUDA_ON_CPU
#include <ucontext.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "kernel.hpp"

namespace bf::cuda_on_cpu {

Place place;

namespace {

constexpr unsigned warp = 32, most_threads = 1024;
constexpr std::size_t stack_bytes = std::size_t{128} << 10;

[[noreturn]] void give_up(const char* why) {
    std::fprintf(stderr, "cuda_on_cpu: %s; block (%u, %u, %u) of (%u, %u, %u), %u x %u x %u threads\n", why,
                 place.block.x, place.block.y, place.block.z, place.blocks.x, place.blocks.y, place.blocks.z,
                 place.threads.x, place.threads.y, place.threads.z);
    std::abort();
}

struct Fiber {
    std::unique_ptr<char[]> stack{new char[stack_bytes]};
    std::jmp_buf at;
    bool started = false;
};

class Machine {
  public:
    void run_block(unsigned count, const std::function<void()>& body) {
        count_ = count;
        body_ = &body;
        state_.assign(count, State::fresh);
        fiber_of_.assign(count, nullptr);
        // In either direction, as it comes: a result that needs a barrier which is not there differs.
        for (bool live = true; live; live = release()) {
            upwards_ = (direction_() & 64) != 0;
            for (begun_ = 0; begun_ < count;) {
                take_next();
                if (state_[current_] == State::fresh || state_[current_] == State::ready) resume();
            }
        }
    }
    void wait_at_block() { leave(State::at_block); }
    void wait_at_warp() { leave(State::at_warp); }
    void* value(unsigned lane) { return values_[current_ / warp * warp + lane]; }
    std::mutex running;

  private:
    enum class State { fresh, ready, at_block, at_warp, done };

    void take_next() {
        current_ = upwards_ ? begun_ : count_ - 1 - begun_;
        ++begun_;
        const dim3& size = place.threads;
        place.thread = {current_ % size.x, current_ / size.x % size.y, current_ / (size.x * size.y)};
    }
    /// Goes on with the current thread; returns when it, or another that its fiber took, has to wait.
    void resume() {
        Fiber*& fiber = fiber_of_[current_];
        if (fiber == nullptr) {
            if (idle_.empty()) idle_.push_back(add_fiber());
            fiber = idle_.back();
            idle_.pop_back();
        }
        if (_setjmp(scheduler_) != 0) return;
        Fiber& next = *fiber;
        if (next.started) _longjmp(next.at, 1);
        next.started = true;
        ucontext_t start;
        getcontext(&start);
        start.uc_stack.ss_sp = next.stack.get();
        start.uc_stack.ss_size = stack_bytes;
        start.uc_link = nullptr;
        makecontext(&start, enter, 0);
        setcontext(&start);
    }
    /// From a fiber to the scheduler.
    void leave(State state) {
        state_[current_] = state;
        switch_from(*fiber_of_[current_]);
    }
    void switch_from(Fiber& fiber) {
        if (_setjmp(fiber.at) == 0) _longjmp(scheduler_, 1);
    }
    /// Runs the current thread, and those behind it that have not begun.
    void run_threads() {
        for (;;) {
            Fiber& fiber = *fiber_of_[current_];
            (*body_)();
            state_[current_] = State::done;
            if (begun_ < count_) {
                take_next();
                if (state_[current_] == State::fresh) {
                    fiber_of_[current_] = &fiber;
                    continue;
                }
                --begun_;  // it waits on a fiber of its own
            }
            idle_.push_back(&fiber);
            switch_from(fiber);
        }
    }
    static void enter();

    /// Opens the barriers that are full; false when the block has ended.
    bool release() {
        const auto all = [&](unsigned from, unsigned to, State state) {
            for (unsigned t = from; t < to; ++t)
                if (state_[t] != state) return false;
            return true;
        };
        if (all(0, count_, State::done)) return false;
        bool opened = all(0, count_, State::at_block);
        if (opened) state_.assign(count_, State::ready);
        for (unsigned from = 0; from + warp <= count_; from += warp)
            if (all(from, from + warp, State::at_warp)) {
                std::fill_n(state_.begin() + from, warp, State::ready);
                opened = true;
            }
        if (!opened) give_up("a barrier at which not all threads arrive");
        return true;
    }
    Fiber* add_fiber() {
        fibers_.push_back(std::make_unique<Fiber>());
        return fibers_.back().get();
    }

    unsigned count_ = 0, begun_ = 0, current_ = 0;
    bool upwards_ = false;
    std::minstd_rand direction_;
    const std::function<void()>* body_ = nullptr;
    std::vector<State> state_;
    std::vector<Fiber*> fiber_of_, idle_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::jmp_buf scheduler_;
    alignas(16) char values_[most_threads][16];
};

Machine& machine() {
    static auto* kept = new Machine;
    return *kept;
}

void Machine::enter() { machine().run_threads(); }

}  // namespace

void wait_for_block() { machine().wait_at_block(); }
void wait_for_warp() { machine().wait_at_warp(); }
void* own_value() { return machine().value(thread_number() % warp); }
const void* value_of_lane(unsigned lane) { return machine().value(lane); }

void run_grid(dim3 blocks, dim3 threads, const std::function<void()>& body) {
    const std::lock_guard lock(machine().running);
    place.blocks = blocks;
    place.threads = threads;
    const unsigned count = threads.x * threads.y * threads.z;
    if (count == 0 || count > most_threads || blocks.x == 0 || blocks.x > 0x7fffffffu || blocks.y - 1 > 65534 ||
        blocks.z - 1 > 65534)
        give_up("a launch that a GPU refuses");
    for (unsigned z = 0; z < blocks.z; ++z)
        for (unsigned y = 0; y < blocks.y; ++y)
            for (unsigned x = 0; x < blocks.x; ++x) {
                place.block = {x, y, z};
                machine().run_block(count, body);
            }
}

}  // namespace bf::cuda_on_cpu
#endif
