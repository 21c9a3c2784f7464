#pragma once
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>

#include "bf/base/error.hpp"
#include "bf/train/progress.hpp"

namespace bf::program {

/// How far long work is: on stderr, in place on a terminal, else a line every 10 s. Work that ends before the first
/// line is due shows none. SIGINT and SIGTERM end the work at the next show() with an Error (stopped), so that
/// temporary files are taken away; a second signal ends the program at once.
class WorkProgress {
  public:
    enum class Output { shown, quiet };
    static Output output(bool quiet) { return quiet ? Output::quiet : Output::shown; }

    /// `what` is done `total` times, `before` of them already: "images checked".
    template <class Count>
    WorkProgress(std::string what, Count total, Count before = {}, Output output = Output::shown)
        : what_(std::move(what)),
          total_(static_cast<std::uint64_t>(total)),
          before_(static_cast<std::uint64_t>(before)),
          output_(output) {
        asked() = 0;
        for (Handled& h : handled_)
            h.previous = std::signal(h.signal, [](int signal) {
                asked() = signal;
                std::signal(signal, SIG_DFL);
            });
    }
    ~WorkProgress() {
        if (open_) std::fputc('\n', stderr);
        for (const Handled& h : handled_) std::signal(h.signal, h.previous);
    }
    WorkProgress(const WorkProgress&) = delete;
    WorkProgress& operator=(const WorkProgress&) = delete;

    template <class Count>
    void show(Count count) {
        const auto done = static_cast<std::uint64_t>(count);
        if (asked()) fail(ErrorCode::stopped, what_, "by signal ", int(asked()), " at ", done, " of ", total_);
        const auto now = std::chrono::steady_clock::now();
        const bool last = done >= total_ && lines_ > 0;
        if (output_ == Output::quiet ||
            (!last && now - shown_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))))
            return;
        shown_ = now;
        const double rate = static_cast<double>(done - before_) / std::chrono::duration<double>(now - start_).count();
        std::fprintf(stderr, "%s%llu/%llu %s, %.0f/s, ETA %s%s", terminal_ ? "\r" : "",
                     static_cast<unsigned long long>(done), static_cast<unsigned long long>(total_), what_.c_str(),
                     rate, clock_text(rate > 0 ? static_cast<double>(total_ - done) / rate : -1).c_str(),
                     terminal_ ? "\x1b[K" : "\n");
        std::fflush(stderr);
        ++lines_;
        open_ = terminal_;
    }

    /// show() as a callback; this object must outlive it.
    auto callback() {
        return [this](std::int64_t done) { show(done); };
    }

  private:
    struct Handled {
        int signal;
        void (*previous)(int) = SIG_DFL;
    };
    static volatile std::sig_atomic_t& asked() {
        static volatile std::sig_atomic_t signal = 0;
        return signal;
    }
    std::string what_;
    std::uint64_t total_, before_;
    Output output_;
    Handled handled_[2] = {{SIGINT}, {SIGTERM}};
    bool terminal_ = isatty(STDERR_FILENO) != 0, open_ = false;
    std::uint64_t lines_ = 0;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), shown_ = start_;
};

}  // namespace bf::program
