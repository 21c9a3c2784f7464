#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace bf {

/// The threads that CPU kernels share. The caller works too, so a pool of n has n - 1 workers. Work is cut into
/// tasks that do not depend on the number of threads: kernels that sum over tasks in order give the same bits on
/// any number of them.
class ThreadPool {
  public:
    explicit ThreadPool(int threads) { start(threads); }
    ~ThreadPool() { stop(); }

    int threads() const { return static_cast<int>(workers_.size()) + 1; }
    void resize(int threads) {
        std::lock_guard run_lock(run_mutex_);
        stop();
        start(threads);
    }

    /// Calls body(i) once for each i in [0, tasks); returns when all are done. An exception of a task is thrown here
    /// after the running tasks have ended; tasks not yet begun are left out.
    /// A call from inside a task, or while another thread uses the pool, runs serially on the caller.
    template <class F>
    void run(std::int64_t tasks, F&& body) {
        if (tasks <= 0) return;
        std::unique_lock run_lock(run_mutex_, std::defer_lock);
        if (tasks == 1 || inside_ || !run_lock.try_lock() || workers_.empty()) {
            for (std::int64_t i = 0; i < tasks; ++i) body(i);
            return;
        }
        {
            std::lock_guard lock(mutex_);
            call_ = [](void* f, std::int64_t i) { (*static_cast<std::remove_reference_t<F>*>(f))(i); };
            body_ = const_cast<void*>(static_cast<const void*>(&body));
            next_ = 0;
            tasks_ = tasks;
            busy_ = static_cast<int>(workers_.size());
            ++generation_;
        }
        wake_.notify_all();
        work();
        std::unique_lock lock(mutex_);
        done_.wait(lock, [&] { return busy_ == 0; });
        if (error_) {
            const std::exception_ptr error = std::exchange(error_, nullptr);
            lock.unlock();
            std::rethrow_exception(error);
        }
    }

  private:
    void start(int threads) {
        quit_ = false;
        for (int i = 1; i < threads; ++i)
            workers_.emplace_back([this, seen = generation_]() mutable {
                for (;;) {
                    std::unique_lock lock(mutex_);
                    wake_.wait(lock, [&] { return quit_ || generation_ != seen; });
                    if (quit_) return;
                    seen = generation_;
                    lock.unlock();
                    work();
                    lock.lock();
                    if (--busy_ == 0) done_.notify_one();
                }
            });
    }
    void stop() {
        {
            std::lock_guard lock(mutex_);
            quit_ = true;
        }
        wake_.notify_all();
        for (auto& w : workers_) w.join();
        workers_.clear();
    }
    void work() {
        inside_ = true;
        try {
            for (std::int64_t i; (i = next_.fetch_add(1)) < tasks_;) call_(body_, i);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (!error_) error_ = std::current_exception();
            next_ = tasks_;
        }
        inside_ = false;
    }

    static inline thread_local bool inside_ = false;
    std::vector<std::thread> workers_;
    std::mutex run_mutex_, mutex_;
    std::condition_variable wake_, done_;
    void (*call_)(void*, std::int64_t) = nullptr;
    void* body_ = nullptr;
    std::atomic<std::int64_t> next_{0};
    std::int64_t tasks_ = 0;
    int busy_ = 0;
    std::exception_ptr error_;
    std::uint64_t generation_ = 0;
    bool quit_ = false;
};

/// The pool of the CPU kernels: BF_THREADS threads if that variable is set, else one a hardware thread.
inline ThreadPool& cpu_pool() {
    static ThreadPool pool([] {
        const char* text = std::getenv("BF_THREADS");
        const int wanted = text ? std::atoi(text) : 0;
        return wanted > 0 ? wanted : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    }());
    return pool;
}

/// Calls body(begin, end) over [0, n) in pieces of `grain`; the pieces do not depend on the number of threads.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& body) {
    grain = std::max<std::int64_t>(1, grain);
    cpu_pool().run((n + grain - 1) / grain,
                   [&](std::int64_t task) { body(task * grain, std::min(n, (task + 1) * grain)); });
}

}  // namespace bf
