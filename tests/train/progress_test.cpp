#include "bf/train/progress.hpp"

#include <gtest/gtest.h>

#include <sstream>

namespace {

TEST(Progress, TheTimeLeftIsDashesUntilItIsKnown) {
    std::ostringstream out;
    bf::Progress progress(out, false);
    progress.show({.step = 1, .total = 10});
    EXPECT_NE(out.str().find("ETA --:--:--"), std::string::npos) << out.str();
    progress.show({.step = 2, .total = 10});
    progress.show({.step = 3, .total = 10});
    EXPECT_NE(out.str().find("ETA 0:00:00"), std::string::npos) << out.str();
    EXPECT_EQ(bf::clock_text(3725), "1:02:05");
}

TEST(LoaderMeter, TellsWhoWaitsForWhom) {
    bf::LoaderMeter slow;
    slow.add({.wait = 1.5, .decode = 6, .augment = 2, .images = 1000});
    slow.add({.wait = 1.5, .decode = 6, .augment = 2, .images = 1000});
    EXPECT_TRUE(slow.loader_bound(10));
    EXPECT_FALSE(slow.loader_bound(100));
    EXPECT_DOUBLE_EQ(slow.possible(2), 250);
    const std::string bound = slow.summary(10, 2), free = slow.summary(100, 1);
    EXPECT_EQ(bound.find("loader-bound: 30% of the time"), 0u) << bound;
    EXPECT_NE(bound.find("decoding took 6.00 ms and augmenting 2.00 ms"), std::string::npos) << bound;
    EXPECT_NE(bound.find("2 workers can give 250 images/s; hint: more num_workers"), std::string::npos) << bound;
    EXPECT_EQ(free.find("compute-bound: 3%"), 0u) << free;
    EXPECT_EQ(free.find("hint"), std::string::npos) << free;
    std::ostringstream out;
    bf::Progress progress(out, false);
    progress.show({.step = 1, .total = 10, .data_wait = 0.3, .loader_images_per_second = 250, .loader_bound = true});
    EXPECT_NE(out.str().find("data-wait 30% (loader-bound, loader 250/s)"), std::string::npos) << out.str();
}

}  // namespace
