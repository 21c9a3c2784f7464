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

}  // namespace
