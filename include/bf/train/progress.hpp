#pragma once
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ostream>
#include <string>

namespace bf {

/// What a progress line shows.
struct ProgressState {
    std::uint64_t step = 0, total = 0, epoch = 0;
    double loss = 0, lr = 0, images_per_second = 0, data_wait = 0;  ///< data_wait: share of the time, 0..1
    std::int64_t queue = 0, queue_size = 0;
    double loader_images_per_second = 0;  ///< what the loader could give
    bool loader_bound = false;
};

/// What batches cost the loader, and the training loop that waited for them. Sums.
struct LoaderMeter {
    double wait = 0;                 ///< seconds of the training loop
    double decode = 0, augment = 0;  ///< seconds of the workers: reading and decoding; resizing, augmenting, writing
    double images = 0;

    void add(const LoaderMeter& m) {
        wait += m.wait;
        decode += m.decode;
        augment += m.augment;
        images += m.images;
    }
    /// A loader that keeps up is not waited for; a tenth of the time allows for the first batches and a busy machine.
    bool loader_bound(double seconds) const { return wait > 0.1 * seconds; }
    /// Images/s that `workers` give at this pace, if each has a core.
    double possible(std::int64_t workers) const {
        return decode + augment > 0 ? images * static_cast<double>(workers) / (decode + augment) : 0;
    }
    /// One sentence for the end of a run of `seconds`, with the remedy.
    std::string summary(double seconds, std::int64_t workers) const {
        char text[384];
        std::snprintf(text, sizeof text,
                      "%s-bound: %.0f%% of the time waited for images; decoding took %.2f ms and augmenting %.2f ms an "
                      "image and worker, so %lld worker%s can give %.0f images/s%s",
                      loader_bound(seconds) ? "loader" : "compute", 100 * wait / seconds, 1e3 * decode / images,
                      1e3 * augment / images, static_cast<long long>(workers), workers == 1 ? "" : "s",
                      possible(workers),
                      loader_bound(seconds) ? "; hint: more num_workers, up to the number of cores" : "");
        return text;
    }
};

/// h:mm:ss of seconds; dashes while they are not known (negative).
inline std::string clock_text(double seconds) {
    if (seconds < 0) return "--:--:--";
    const auto s = static_cast<long>(seconds);
    char text[32];
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return text;
}

/// A bar that is redrawn in place on a terminal (stderr, whose width it keeps to), and plain lines elsewhere. Writes to
/// the stream it is given.
class Progress {
  public:
    Progress(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

    /// Shows the state; on a terminal at most ten times a second, elsewhere each time it is called.
    void show(const ProgressState& s) {
        const auto now = std::chrono::steady_clock::now();
        if (first_step_ == none) {
            first_step_ = s.step > 0 ? s.step - 1 : 0;
            start_ = now;
        }
        if (terminal_ && s.step != s.total && now - last_ < std::chrono::milliseconds(100)) return;
        last_ = now;
        const double elapsed = std::chrono::duration<double>(now - start_).count();
        const double done = static_cast<double>(s.step - first_step_);
        const double left = done > 1 ? elapsed / (done - 1) * static_cast<double>(s.total - s.step) : -1;
        std::string bound = s.loader_bound ? "loader-bound" : "compute-bound";
        if (s.loader_images_per_second > 0) {
            char possible[48];
            std::snprintf(possible, sizeof possible, ", loader %.0f/s", s.loader_images_per_second);
            bound += possible;
        }
        char text[320];
        std::snprintf(text, sizeof text,
                      "epoch %llu  step %llu/%llu  loss %.4f  lr %.5f  %.0f images/s  data-wait %.0f%% (%s)  queue "
                      "%lld/%lld  ETA %s",
                      static_cast<unsigned long long>(s.epoch), static_cast<unsigned long long>(s.step),
                      static_cast<unsigned long long>(s.total), s.loss, s.lr, s.images_per_second, 100 * s.data_wait,
                      bound.c_str(), static_cast<long long>(s.queue), static_cast<long long>(s.queue_size),
                      clock_text(left).c_str());
        if (terminal_) {
            constexpr int width = 20;
            const int filled = s.total ? static_cast<int>(width * s.step / s.total) : 0;
            std::string bar = "[" + std::string(static_cast<std::size_t>(filled), '#') +
                              std::string(static_cast<std::size_t>(width - filled), '.') + "] " + text;
            // a bar over two rows would scroll the terminal at each drawing
            winsize window{};
            if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1)
                bar.resize(std::min<std::size_t>(bar.size(), window.ws_col - 1u));
            out_ << '\r' << bar << "\x1b[K";
            open_ = true;
        } else {
            out_ << text << '\n';
        }
        out_.flush();
    }
    /// A line of its own, below the bar.
    void line(const std::string& text) {
        finish();
        out_ << text << std::endl;
    }
    /// Ends the bar's line.
    void finish() {
        if (open_) out_ << '\n';
        open_ = false;
    }

  private:
    static constexpr std::uint64_t none = ~std::uint64_t{0};
    std::ostream& out_;
    bool terminal_, open_ = false;
    std::uint64_t first_step_ = none;
    std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace bf
