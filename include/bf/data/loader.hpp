#pragma once
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/core/tensor.hpp"
#include "bf/data/augment.hpp"
#include "bf/data/dataset.hpp"
#include "bf/data/input_format.hpp"
#include "bf/data/sampler.hpp"
#include "bf/data/transform.hpp"

namespace bf {

/// One batch of training images.
struct Batch {
    Tensor images;   ///< [B, 3, S, S] f32 nhwc, as LoaderOptions::input says
    Tensor labels;   ///< [B] i64
    Tensor indices;  ///< [B] i64 places in the dataset
    std::uint64_t epoch = 0;
    bool last_of_epoch = false;
    double wait_seconds = 0;     ///< how long next() waited for the workers
    double decode_seconds = 0;   ///< of the one worker that made the batch: reading and decoding
    double augment_seconds = 0;  ///< resizing, augmenting and writing
};

struct LoaderOptions {
    std::int64_t batch_size = 128;
    int image_size = 112;
    std::uint64_t seed = 1;
    int workers = 2;
    int prefetch = 4;  ///< batches made ahead
    bool shuffle = true;
    std::int64_t images_per_identity = 0;  ///< K > 0: balanced batches (Sampler), of batch_size / K identities
    Augment augment{};
    InputFormat input{};
    double max_bad_share = 0;  ///< share of images that may be unreadable; they are replaced, counted and listed
};

/// Where a loader stands: the batch that next() gives.
struct LoaderPosition {
    std::uint64_t epoch = 0, batch = 0;
};

/// Endless batches over epochs, made ahead by worker threads. What comes out depends on (seed, epoch, batch) alone:
/// not on the number of workers, not on prefetch. An image that an epoch shows once has the
/// same augmentation wherever it stands in it. The last incomplete batch of an epoch is dropped.
class Loader {
  public:
    /// The dataset must outlive the loader.
    Loader(const Dataset& dataset, const LoaderOptions& options)
        : dataset_(dataset),
          options_(checked(dataset, options)),
          sampler_(dataset, options.batch_size, options.seed, options.shuffle, options.images_per_identity) {
        start({});
    }
    ~Loader() { stop(); }

    std::uint64_t batches_per_epoch() const { return sampler_.batches_per_epoch(); }
    LoaderPosition position() const { return position_; }
    /// Continues at another place, as if next() had been called up to there.
    void seek(LoaderPosition position) {
        stop();
        start(position);
    }

    /// The next batch. An image that cannot be read is thrown here, unless max_bad_share allows replacing it; the call
    /// after that goes on with the batch that follows.
    Batch next() {
        const auto began = Clock::now();
        std::unique_lock lock(mutex_);
        const std::uint64_t wanted = delivered_;
        filled_.wait(lock, [&] { return ready_.count(wanted) > 0; });
        Made made = std::move(ready_[wanted]);
        ready_.erase(wanted);
        ++delivered_;
        lock.unlock();
        room_.notify_all();
        if (++position_.batch == batches_per_epoch()) position_ = {position_.epoch + 1, 0};  // past an error too
        if (made.error) std::rethrow_exception(made.error);
        for (const std::string& name : made.bad) bad_.insert(name);
        BF_CHECK_DATA(static_cast<double>(bad_.size()) <= options_.max_bad_share * static_cast<double>(dataset_.size()),
                      "loader", bad_.size(), " unreadable images, more than the share ", options_.max_bad_share,
                      " allows; last: ", bad_.empty() ? "" : *bad_.rbegin());
        made.batch.wait_seconds = seconds(began, Clock::now());
        return std::move(made.batch);
    }

    /// Batches that came before the one that next() gives, counted from the first of epoch 0.
    std::uint64_t number() const { return position_.epoch * batches_per_epoch() + position_.batch; }
    /// Batch `number` made again, to the bit, beside the workers; the place of the loader stays.
    Batch again(std::uint64_t number) const {
        const Sampler::OfBatch sample = samples(number);
        Batch b = blank(number);
        std::vector<std::exception_ptr> errors(static_cast<std::size_t>(options_.batch_size));
        parallel_for(options_.batch_size, 4, [&](std::int64_t begin, std::int64_t end) {
            InputWriter write(options_.input, options_.image_size);
            Image image;
            for (std::int64_t i = begin; i < end; ++i) try {
                    Made unused;
                    fill(sample, i, b, image, write, unused);
                } catch (...) {
                    errors[static_cast<std::size_t>(i)] = std::current_exception();
                }
        });
        for (const auto& e : errors)
            if (e) std::rethrow_exception(e);
        return b;
    }
    /// Labels of batch `number`, as they are where no image must be replaced.
    std::vector<std::int64_t> labels(std::uint64_t number) const {
        const Sampler::OfBatch sample = samples(number);
        std::vector<std::int64_t> all;
        for (std::int64_t i = 0; i < options_.batch_size; ++i)
            all.push_back(dataset_.label(sample(static_cast<std::uint64_t>(i), 0).index));
        return all;
    }
    std::int64_t batch_size() const { return options_.batch_size; }

    /// Names (with reasons) of images that were replaced so far.
    const std::set<std::string>& bad_images() const { return bad_; }
    /// Counts images that an earlier part of the run replaced, so that max_bad_share holds for the whole of it.
    void count_bad_images(const std::set<std::string>& earlier) { bad_.insert(earlier.begin(), earlier.end()); }

  private:
    using Clock = std::chrono::steady_clock;
    static double seconds(Clock::time_point begin, Clock::time_point end) {
        return std::chrono::duration<double>(end - begin).count();
    }
    struct Made {
        Batch batch;
        std::vector<std::string> bad;
        std::exception_ptr error;
    };

    static const LoaderOptions& checked(const Dataset& dataset, const LoaderOptions& options) {
        BF_CHECK(options.batch_size > 0 && options.workers > 0 && options.prefetch > 0 && options.image_size > 0 &&
                     options.images_per_identity >= 0,
                 "loader", "options; got batch_size ", options.batch_size, ", workers ", options.workers, ", prefetch ",
                 options.prefetch, ", images_per_identity ", options.images_per_identity);
        BF_CHECK(dataset.size() >= options.batch_size, "loader", "dataset smaller than a batch; got ", dataset.size(),
                 " images, batch_size ", options.batch_size, "; hint: a smaller batch_size");
        return options;
    }
    void start(LoaderPosition position) {
        position_ = position;
        claimed_ = delivered_ = position.epoch * batches_per_epoch() + position.batch;
        quit_ = false;
        for (int i = 0; i < options_.workers; ++i) try {
                workers_.emplace_back([this] { work(); });
            } catch (const std::system_error& e) {
                stop();
                fail(ErrorCode::runtime, "loader", "thread ", i + 1, " of ", options_.workers,
                     " cannot be started: ", e.what(), "; hint: fewer workers (num_workers), or a higher ulimit -u");
            }
    }
    void stop() {
        {
            const std::lock_guard lock(mutex_);
            quit_ = true;
        }
        room_.notify_all();
        for (auto& w : workers_) w.join();
        workers_.clear();
        ready_.clear();
    }
    void work() {
        InputWriter write(options_.input, options_.image_size);
        Image image;  // its memory serves all images of this worker
        for (;;) {
            std::unique_lock lock(mutex_);
            room_.wait(lock,
                       [&] { return quit_ || claimed_ < delivered_ + static_cast<std::uint64_t>(options_.prefetch); });
            if (quit_) return;
            const std::uint64_t number = claimed_++;
            lock.unlock();
            Made made;
            try {
                make(number, made, image, write);
            } catch (...) {
                made.error = std::current_exception();
            }
            lock.lock();
            ready_[number] = std::move(made);
            lock.unlock();
            filled_.notify_all();
        }
    }

    Sampler::OfBatch samples(std::uint64_t number) const {
        return {sampler_, number / batches_per_epoch(), number % batches_per_epoch()};
    }
    /// A batch with room for its images.
    Batch blank(std::uint64_t number) const {
        const std::int64_t n = options_.batch_size, size = options_.image_size;
        Batch b;
        b.images = Tensor::empty({n, 3, size, size}, {.format = Format::nhwc});
        b.labels = Tensor::empty({n}, {.dtype = DType::i64});
        b.indices = Tensor::empty({n}, {.dtype = DType::i64});
        b.epoch = number / batches_per_epoch();
        b.last_of_epoch = (number + 1) % batches_per_epoch() == 0;
        return b;
    }
    /// Place i of batch b; times and images that were replaced go into `made`.
    void fill(const Sampler::OfBatch& sample, std::int64_t i, const Batch& b, Image& image, InputWriter& write,
              Made& made) const {
        const auto began = Clock::now();
        const std::int64_t size = options_.image_size;
        Sample chosen{};
        for (std::uint64_t attempt = 0;; ++attempt) {
            chosen = sample(static_cast<std::uint64_t>(i), attempt);
            try {
                dataset_.load(chosen.index, options_.image_size, image);
                break;
            } catch (const Error& e) {
                if (e.code() != ErrorCode::data || options_.max_bad_share <= 0 || attempt >= 100) throw;
                made.bad.push_back(e.what());  // the next sample stands in
            }
        }
        const auto decoded = Clock::now();
        if (image.width != size || image.height != size) image = to_square(image, options_.image_size);
        Rng rng(options_.seed, Stream::augment, b.epoch,
                static_cast<std::uint64_t>(chosen.index) + (chosen.repeat << 40));
        const bool mirror = options_.augment.change(image, rng);
        write(image, mirror, b.images.data<float>() + i * 3 * size * size);
        b.labels.data<std::int64_t>()[i] = dataset_.label(chosen.index);
        b.indices.data<std::int64_t>()[i] = chosen.index;
        made.batch.decode_seconds += seconds(began, decoded);
        made.batch.augment_seconds += seconds(decoded, Clock::now());
    }
    void make(std::uint64_t number, Made& made, Image& image, InputWriter& write) const {
        const Sampler::OfBatch sample = samples(number);
        made.batch = blank(number);
        for (std::int64_t i = 0; i < options_.batch_size; ++i) fill(sample, i, made.batch, image, write, made);
    }

    const Dataset& dataset_;
    LoaderOptions options_;
    Sampler sampler_;
    LoaderPosition position_;
    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable room_, filled_;
    std::map<std::uint64_t, Made> ready_;
    std::uint64_t claimed_ = 0, delivered_ = 0;
    bool quit_ = false;
    std::set<std::string> bad_;
};

/// The named images as one batch [n, 3, S, S], without augmentation, mirrored on request. The first image in order
/// that cannot be read is thrown.
inline Tensor load_images(const Dataset& dataset, std::span<const std::int64_t> indices, int image_size,
                          bool flip = false, const InputFormat& format = {}) {
    const auto n = static_cast<std::int64_t>(indices.size());
    Tensor images = Tensor::empty({n, 3, image_size, image_size}, {.format = Format::nhwc});
    std::vector<std::exception_ptr> errors(indices.size());
    parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end) {
        InputWriter write(format, image_size);
        Image image;
        for (std::int64_t i = begin; i < end; ++i) try {
                dataset.load(indices[static_cast<std::size_t>(i)], image_size, image);
                if (image.width != image_size || image.height != image_size) image = to_square(image, image_size);
                write(image, flip, images.data<float>() + i * 3 * image_size * image_size);
            } catch (...) {
                errors[static_cast<std::size_t>(i)] = std::current_exception();
            }
    });
    for (const auto& e : errors)
        if (e) std::rethrow_exception(e);
    return images;
}

}  // namespace bf
