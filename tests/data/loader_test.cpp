// The loader's threads: order, errors and endings must not depend on how fast a worker is. The dataset here is slow in
// an uneven way, so that batches are finished out of order.
#include "bf/data/loader.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <numeric>
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

const bf::Augment all_of_it{.flip = true,
                            .crop_pad = 2,
                            .brightness = 0.2f,
                            .contrast = 0.2f,
                            .saturation = 0.2f,
                            .erase = 0.5f,
                            .low_resolution = 0.3f};
LoaderOptions options(int workers, int prefetch) {
    return {
        .batch_size = 5, .image_size = 8, .seed = 9, .workers = workers, .prefetch = prefetch, .augment = all_of_it};
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

TEST(Loader, MakesABatchAgainToTheBit) {
    for (const int broken : {-1, 7})
        for (const std::int64_t each : {0, 2}) {  // shuffled and balanced
            Uneven images(23);
            images.broken = broken;
            LoaderOptions o = options(3, 4);
            o.batch_size = 6;
            o.images_per_identity = each;
            o.max_bad_share = 0.2;
            Loader loader(images, o);
            for (std::uint64_t i = 0; i < 14; ++i) {
                EXPECT_EQ(loader.number(), i);
                const std::vector<std::int64_t> labels = loader.labels(i);
                const Batch next = loader.next();
                EXPECT_TRUE(same(next, loader.again(i))) << i;
                EXPECT_TRUE(same(loader.again(20 - i), loader.again(20 - i))) << i;
                if (broken >= 0) continue;
                for (std::size_t k = 0; k < labels.size(); ++k)
                    EXPECT_EQ(labels[k], next.labels.data<std::int64_t>()[k]);
            }
        }
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

// ---- order

TEST(Permutation, EveryNumberOnceForAnySize) {
    for (std::uint64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 100, 101, 1000, 4095, 4096, 4097, 99991}) {
        std::vector<char> seen(n);
        const bf::Permutation p(n, 5, n % 7, n % 3);
        for (std::uint64_t i = 0; i < n; ++i) {
            ASSERT_LT(p(i), n);
            ASSERT_FALSE(seen[p(i)]++) << n;
        }
    }
    // far beyond what a list could hold; distinct where it is looked at
    const bf::Permutation large(42474557000ull, 1, 0);
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < 20000; ++i) seen.insert(large(i * 2123727));
    EXPECT_EQ(seen.size(), 20000u);
    EXPECT_LT(*seen.rbegin(), 42474557000ull);
    EXPECT_THROW(bf::Permutation(0, 1, 0), bf::Error);
}

/// Chi-squared per degree of freedom of equally likely cells.
double unevenness(const std::vector<int>& counts, double degrees) {
    const double want = std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(counts.size());
    double sum = 0;
    for (const int c : counts) sum += (c - want) * (c - want) / want;
    return sum / degrees;
}

TEST(Permutation, PlacesAndNeighboursAreUniform) {
    // which number stands where, over epochs: n * n cells with (n - 1)^2 degrees of freedom; the standard deviation of
    // the ratio is sqrt(2 / degrees)
    for (const int n : {2, 3, 5, 12, 37}) {
        std::vector<int> places(static_cast<std::size_t>(n * n));
        for (std::uint64_t epoch = 0; epoch < 6000; ++epoch) {
            const bf::Permutation p(static_cast<std::uint64_t>(n), 11, epoch);
            for (int i = 0; i < n; ++i) ++places[static_cast<std::size_t>(i * n) + p(static_cast<std::uint64_t>(i))];
        }
        const double degrees = (n - 1.0) * (n - 1.0);
        EXPECT_LT(std::abs(unevenness(places, degrees) - 1), 5 * std::sqrt(2 / degrees)) << n;
    }
    // all 120 orders of five
    std::vector<int> orders(3125);
    for (std::uint64_t epoch = 0; epoch < 24000; ++epoch) {
        const bf::Permutation p(5, 12, epoch);
        std::uint64_t order = 0;
        for (std::uint64_t i = 0; i < 5; ++i) order = order * 5 + p(i);
        ++orders[order];
    }
    std::erase(orders, 0);
    EXPECT_EQ(orders.size(), 120u);
    EXPECT_LT(std::abs(unevenness(orders, 119) - 1), 5 * std::sqrt(2 / 119.0));
    // neither the place nor the number before tells a number: correlations of 100,000 numbers
    const std::uint64_t n = 100000;
    const bf::Permutation p(n, 3, 4);
    double with_place = 0, with_last = 0;
    const double mean = (n - 1) / 2.0, variance = (static_cast<double>(n) * n - 1) / 12.0;
    for (std::uint64_t i = 1; i < n; ++i) {
        const double v = static_cast<double>(p(i)) - mean;
        with_place += v * (static_cast<double>(i) - mean) / variance / n;
        with_last += v * (static_cast<double>(p(i - 1)) - mean) / variance / n;
    }
    EXPECT_LT(std::abs(with_place), 4 / std::sqrt(n));
    EXPECT_LT(std::abs(with_last), 4 / std::sqrt(n));
}

/// People with 1, 2, .. 9 images and again, mixed.
class Mixed : public Uneven {
  public:
    Mixed() : Uneven(45 * 2, 0) {
        for (std::int64_t who = 0; who < 18; ++who) who_.insert(who_.end(), static_cast<std::size_t>(who % 9 + 1), who);
    }
    std::int64_t identities() const override { return 18; }
    std::int64_t label(std::int64_t i) const override { return who_[static_cast<std::size_t>(i * 77 % 90)]; }

  private:
    std::vector<std::int64_t> who_;
};

TEST(BalancedSampling, EachBatchHasItsIdentitiesAndEachIdentityItsTurns) {
    const Mixed data;
    const auto balanced = [](int workers) {
        LoaderOptions o = options(workers, 3);
        o.batch_size = 12;  // 4 identities with 3 images
        o.images_per_identity = 3;
        return o;
    };
    Loader one(data, balanced(1)), many(data, balanced(3));
    EXPECT_EQ(one.batches_per_epoch(), 7u);
    std::vector<Batch> all;
    std::map<std::int64_t, int> turns, shown;
    for (int i = 0; i < 63; ++i) {  // nine epochs
        all.push_back(one.next());
        ASSERT_TRUE(same(all.back(), many.next())) << i;
        std::map<std::int64_t, std::set<std::int64_t>> images;
        std::map<std::int64_t, int> count;
        for (int k = 0; k < 12; ++k) {
            const std::int64_t who = all.back().labels.data<std::int64_t>()[k],
                               image = all.back().indices.data<std::int64_t>()[k];
            ASSERT_EQ(data.label(image), who);
            ++count[who];
            images[who].insert(image);
            ++shown[image];
        }
        ASSERT_EQ(count.size(), 4u);
        for (const auto& [who, n] : count) {
            ASSERT_EQ(n, 3);
            // different images, unless there are not enough
            ASSERT_EQ(images[who].size(), std::min<std::size_t>(3, static_cast<std::size_t>(who % 9 + 1)));
            ++turns[who];
        }
    }
    EXPECT_EQ(turns.size(), 18u);
    for (const auto& [who, n] : turns) EXPECT_NEAR(n, 63 * 4 / 18.0, 7) << who;  // rounds leave two out
    EXPECT_EQ(shown.size(), 90u);                                                // every image had its turn
    // anywhere
    many.seek({2, 3});
    for (std::size_t i = 17; i < 20; ++i) ASSERT_TRUE(same(many.next(), all[i]));
    // an image that is shown twice in an epoch is not augmented twice alike
    LoaderOptions twice = balanced(1);
    twice.batch_size = 54;  // all 18 identities: the one with a single image has it three times
    Loader loader(data, twice);
    const Batch b = loader.next();
    std::map<std::int64_t, const float*> first;
    int repeated = 0, alike = 0;
    for (int k = 0; k < 54; ++k) {
        const float* pixels = b.images.data<float>() + k * 192;
        const auto [at, fresh] = first.emplace(b.indices.data<std::int64_t>()[k], pixels);
        repeated += !fresh;
        alike += !fresh && std::memcmp(at->second, pixels, 192 * sizeof(float)) == 0;
    }
    EXPECT_EQ(repeated, 6);  // two people with one image, two with two
    EXPECT_LE(alike, 2);
}

TEST(BalancedSampling, AnotherImageOfTheIdentityStandsInAndWrongSizesAreRefused) {
    Mixed data;
    data.broken = 5;
    LoaderOptions o = options(2, 2);
    o.batch_size = 12;
    o.images_per_identity = 3;
    o.max_bad_share = 0.1;
    Loader loader(data, o);
    for (int i = 0; i < 21; ++i) {
        const Batch b = loader.next();
        std::map<std::int64_t, int> count;
        for (const std::int64_t who : b.labels.span<std::int64_t>()) ++count[who];
        ASSERT_EQ(count.size(), 4u);
        for (const std::int64_t image : b.indices.span<std::int64_t>()) ASSERT_NE(image, 5);
    }
    EXPECT_EQ(loader.bad_images().size(), 1u);
    o.images_per_identity = 5;
    EXPECT_THROW(Loader(data, o), bf::Error);
    o.images_per_identity = 1;
    o.batch_size = 30;
    EXPECT_THROW(Loader(data, o), bf::Error);
}

TEST(LoaderThreads, AThreadThatCannotStartIsAnErrorAndNoEnd) {
    const Uneven data(23);
    pthread_attr_t usual, huge;
    pthread_getattr_default_np(&usual);
    pthread_getattr_default_np(&huge);
    ASSERT_EQ(pthread_attr_setstacksize(&huge, std::size_t{1} << 47), 0);  // more than a process can address
    ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
    std::string text;
    try {
        Loader loader(data, options(3, 2));
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::runtime);
        text = e.what();
    }
    pthread_setattr_default_np(&usual);
    EXPECT_NE(text.find("thread 1 of 3 cannot be started"), std::string::npos) << text;
    Loader loader(data, options(3, 2));
    loader.next();
}

TEST(LoaderThreads, ABatchTellsWhatItCost) {
    const Uneven data(23, 3000);
    Loader loader(data, options(1, 1));
    double decode = 0, augment = 0;
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < 8; ++i) {
        const Batch b = loader.next();
        decode += b.decode_seconds;
        augment += b.augment_seconds;
    }
    const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    EXPECT_GT(decode, 2e-3);  // every third image sleeps for up to 3 ms
    EXPECT_GT(augment, 0);
    EXPECT_LE(decode + augment, whole + 1e-3);
}

}  // namespace
