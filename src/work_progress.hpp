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

/// How far long work over many files or records is: on stderr, in place on a terminal, else a line every 10 s. SIGINT
/// and SIGTERM end the work at the next show() with an Error (stopped), so that temporary files are taken away.
class WorkProgress {
  public:
    /// `what` is done `total` times: "images checked".
    WorkProgress(std::string what, std::uint64_t total) : what_(std::move(what)), total_(total) {
        asked() = 0;
        for (const int s : {SIGINT, SIGTERM}) std::signal(s, [](int signal) { asked() = signal; });
    }
    ~WorkProgress() {
        if (open_) std::fputc('\n', stderr);
        for (const int s : {SIGINT, SIGTERM}) std::signal(s, SIG_DFL);
    }
    WorkProgress(const WorkProgress&) = delete;
    WorkProgress& operator=(const WorkProgress&) = delete;

    void show(std::uint64_t done) {
        if (asked()) fail(ErrorCode::stopped, what_, "by signal ", int(asked()), " at ", done, " of ", total_);
        const auto now = std::chrono::steady_clock::now();
        if (now - shown_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))) return;
        shown_ = now;
        const double rate = static_cast<double>(done) / std::chrono::duration<double>(now - start_).count();
        std::fprintf(stderr, "%s%llu/%llu %s, %.0f/s, ETA %s%s", terminal_ ? "\r" : "",
                     static_cast<unsigned long long>(done), static_cast<unsigned long long>(total_), what_.c_str(),
                     rate, clock_text(rate > 0 ? static_cast<double>(total_ - done) / rate : -1).c_str(),
                     terminal_ ? "\x1b[K" : "\n");
        std::fflush(stderr);
        open_ = terminal_;
    }

  private:
    static volatile std::sig_atomic_t& asked() {
        static volatile std::sig_atomic_t signal = 0;
        return signal;
    }
    std::string what_;
    std::uint64_t total_;
    bool terminal_ = isatty(STDERR_FILENO) != 0, open_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), shown_ = start_;
};

}  // namespace bf::program
