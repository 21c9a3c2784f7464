// The loader's threads: order, errors and endings must not depend on how fast a worker is. The dataset here is slow in
// an uneven way, so that batches are finished out of order.
#include "bf/data/loader.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <stdexcept>

namespace {

using bf::Batch;
using bf::Image;
using bf::Loader;
using bf::LoaderOptions;

/// Images of 8 pixels that name themselves; some take long, some cannot be read.
class Uneven : public bf::Dataset {
  public:
    explicit Uneven(std::int64_t size, int slowest_us = 300) : size_(size), slowest_us_(slowest_us) {}
    std::int64_t size() const override { return size_; }
    std::int64_t identities() const override { return 4; }
    std::int64_t label(std::int64_t i) const override { return i % 4; }
    std::string name(std::int64_t i) const override { return "uneven/" + std::to_string(i); }
    Image image(std::int64_t i) const override {
        const std::uint64_t call = calls++;
        if (slowest_us_ > 0 && call % 3 == 0)
            std::this_thread::sleep_for(
                std::chrono::microseconds(call * 7919 % static_cast<std::uint64_t>(slowest_us_)));
        if (i == broken) bf::fail(bf::ErrorCode::data, name(i), "cannot be read");
        if (i == strange) throw std::runtime_error("not an Error at all");
        Image image(8, 8);
        for (std::size_t k = 0; k < image.pixels.size(); ++k)
            image.pixels[k] = static_cast<std::uint8_t>((static_cast<std::size_t>(i) * 31 + k * k) % 251);
        return image;
    }
    mutable std::atomic<std::uint64_t> calls{0};
    std::int64_t broken = -1, strange = -1;

  private:
    std::int64_t size_;
    int slowest_us_;
};

const bf::Augment everything{.flip = true,
                             .crop_pad = 2,
                             .brightness = 0.2f,
                             .contrast = 0.2f,
                             .saturation = 0.2f,
                             .erase = 0.5f,
                             .low_resolution = 0.3f};
LoaderOptions options(int workers, int prefetch) {
    return {
        .batch_size = 5, .image_size = 8, .seed = 9, .workers = workers, .prefetch = prefetch, .augment = everything};
}
constexpr std::pair<int, int> crews[] = {{1, 1}, {1, 7}, {2, 1}, {2, 7}, {5, 1}, {5, 7}};

bool same(const Batch& a, const Batch& b) {
    const auto equal = [](const bf::Tensor& x, const bf::Tensor& y) {
        return x.shape() == y.shape() && std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
    };
    return equal(a.images, b.images) && equal(a.labels, b.labels) && equal(a.indices, b.indices) &&
           a.epoch == b.epoch && a.last_of_epoch == b.last_of_epoch;
}
/// Runs f and ends the program if it hangs: a thread that waits forever cannot be joined.
void without_hanging(const std::function<void()>& f) {
    std::packaged_task<void()> task(f);
    auto done = task.get_future();
    std::thread runner(std::move(task));
    if (done.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
        std::fprintf(stderr, "hangs\n");
        std::abort();
    }
    runner.join();
    done.get();
}

TEST(LoaderThreads, SameBatchesForAnyCrew) {
    const Uneven data(23);
    std::vector<Batch> want;
    for (const auto& [workers, prefetch] : crews) {
        Loader loader(data, options(workers, prefetch));
        for (std::size_t i = 0; i < 14; ++i) {  // three epochs and a half
            const Batch batch = loader.next();
            if (want.size() < 14)
                want.push_back(batch);
            else
                ASSERT_TRUE(same(batch, want[i])) << workers << " workers, prefetch " << prefetch << ", batch " << i;
        }
    }
}

TEST(LoaderThreads, SeekAtAnyTimeEqualsALoaderThatWasNeverDisturbed) {
    const Uneven data(23);
    std::vector<Batch> want;
    Loader whole(data, options(1, 1));
    for (int i = 0; i < 16; ++i) want.push_back(whole.next());
    for (const auto& [workers, prefetch] : crews) {
        Loader loader(data, options(workers, prefetch));
        const std::uint64_t per_epoch = loader.batches_per_epoch();
        // ahead, back, to where it stands, into another epoch: while the workers are busy with something else
        for (const std::uint64_t to : {6, 2, 5, 5, 13, 0, 9}) {
            loader.seek({to / per_epoch, to % per_epoch});
            for (std::uint64_t i = to; i < to + 3; ++i) {
                EXPECT_EQ(loader.position().epoch * per_epoch + loader.position().batch, i);
                ASSERT_TRUE(same(loader.next(), want[i]))
                    << workers << " workers, prefetch " << prefetch << ", batch " << i;
            }
        }
    }
}

TEST(LoaderThreads, NoMoreBatchesAheadThanAsked) {
    for (const auto& [workers, prefetch] : crews) {
        const Uneven data(40, 0);
        Loader loader(data, options(workers, prefetch));
        for (std::uint64_t taken = 0; taken < 3; ++taken) {
            const std::uint64_t most = (taken + static_cast<std::uint64_t>(prefetch)) * 5;
            for (int i = 0; i < 5000 && data.calls < most; ++i)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            EXPECT_EQ(data.calls, most) << workers << " workers, prefetch " << prefetch << " after " << taken;
            loader.next();
        }
    }
}

TEST(LoaderThreads, AnErrorArrivesWithItsBatchAndNoOther) {
    Uneven data(23);
    std::vector<Batch> want;
    {
        Loader whole(data, options(1, 1));
        for (int i = 0; i < 8; ++i) want.push_back(whole.next());
    }
    const std::int64_t victim = want[2].indices.data<std::int64_t>()[3];
    for (const auto& [workers, prefetch] : crews)
        without_hanging([&, workers = workers, prefetch = prefetch] {
            data.broken = victim;
            Loader loader(data, options(workers, prefetch));
            for (std::size_t i = 0; i < 4; ++i) {
                EXPECT_EQ(loader.position().batch, i);
                if (i != 2) {
                    EXPECT_TRUE(same(loader.next(), want[i])) << workers << " workers, batch " << i;
                    continue;
                }
                try {
                    loader.next();
                    ADD_FAILURE() << "the broken image went unnoticed";
                } catch (const bf::Error& e) {
                    EXPECT_EQ(e.code(), bf::ErrorCode::data);
                    EXPECT_EQ(e.op(), "uneven/" + std::to_string(victim));
                }
            }
            loader.seek({0, 2});  // the same place again: the same error
            EXPECT_THROW(loader.next(), bf::Error);
        });
}

TEST(LoaderThreads, AnExceptionOfAnotherKindArrivesToo) {
    Uneven data(23);
    data.strange = 11;
    without_hanging([&] {
        Loader loader(data, options(5, 7));
        int thrown = 0;
        for (std::uint64_t i = 0; i < 3 * loader.batches_per_epoch(); ++i) try {
                loader.next();
            } catch (const std::runtime_error& e) {
                EXPECT_STREQ(e.what(), "not an Error at all");
                ++thrown;
            }
        // once an epoch, unless the image is among the three that an epoch leaves out
        EXPECT_GE(thrown, 1);
        EXPECT_LE(thrown, 3);
    });
}

TEST(LoaderThreads, EndsAtAnyMoment) {
    Uneven good(23), bad(23);
    bad.broken = 11;
    bad.strange = 4;
    for (const Uneven* data : {&good, &bad})
        without_hanging([&] {
            for (int round = 0; round < 50; ++round) {
                const auto& [workers, prefetch] = crews[static_cast<std::size_t>(round) % std::size(crews)];
                Loader loader(*data, options(workers, prefetch));
                for (int taken = 0; taken < round % 4; ++taken) try {
                        loader.next();
                    } catch (const std::exception&) {
                    }
                if (round % 3 == 0) loader.seek({static_cast<std::uint64_t>(round), 1});
                std::this_thread::sleep_for(std::chrono::microseconds(round * 37 % 500));
            }  // destroyed with workers waiting, working, and failing
        });
    const std::uint64_t calls = good.calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(good.calls, calls);  // no worker outlived its loader
}

}  // namespace
