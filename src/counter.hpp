#pragma once
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "bf/train/progress.hpp"

namespace bf::program {

/// Counts long work on stderr: redrawn in place on a terminal, a line every few seconds elsewhere.
class Counter {
  public:
    Counter(std::int64_t total, std::string unit) : total_(total), unit_(std::move(unit)) {}

    void show(std::int64_t done) {
        const auto now = std::chrono::steady_clock::now();
        if (done < total_ &&
            now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000)))
            return;
        if (done >= total_ && !shown_) return;  // short work needs no line
        last_ = now;
        shown_ = done < total_;
        const double seconds = std::chrono::duration<double>(now - start_).count(),
                     rate = static_cast<double>(done) / std::max(1e-9, seconds);
        std::fprintf(stderr, "%s%lld/%lld %s  %.0f/s  ETA %s%s", terminal_ ? "\r" : "", static_cast<long long>(done),
                     static_cast<long long>(total_), unit_.c_str(), rate,
                     clock_text(static_cast<double>(total_ - done) / std::max(1e-9, rate)).c_str(),
                     terminal_ && done < total_ ? "\x1b[K" : "\n");
    }

  private:
    std::int64_t total_;
    std::string unit_;
    bool terminal_ = isatty(STDERR_FILENO) != 0, shown_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
};

}  // namespace bf::program
