#include "cuda/per_device.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <vector>

namespace {

TEST(PerDevice, IsMadeOnceByWhicheverThreadComesFirst) {
    bf::cuda::PerDevice<int> all;
    std::atomic<int> made = 0;
    const auto make = [&] {
        ++made;
        return std::make_unique<int>(7);
    };
    EXPECT_EQ(all.find(3), nullptr);
    std::vector<std::thread> threads;
    std::atomic<int*> first = nullptr;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] {
            int* mine = &all.get(3, make);
            int* none = nullptr;
            if (!first.compare_exchange_strong(none, mine)) {
                EXPECT_EQ(none, mine);
            }
        });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(made, 1);
    EXPECT_EQ(all.find(3), first.load());
    delete first.load();
}

TEST(PerDevice, AFailureIsTriedAgain) {
    bf::cuda::PerDevice<int> all;
    EXPECT_THROW(all.get(0, []() -> std::unique_ptr<int> { bf::fail(bf::ErrorCode::runtime, "make", "no"); }),
                 bf::Error);
    EXPECT_EQ(all.find(0), nullptr);
    const std::unique_ptr<int> made(&all.get(0, [] { return std::make_unique<int>(1); }));
    EXPECT_EQ(*made, 1);
    EXPECT_THROW(all.find(64), std::out_of_range);
}

TEST(EnvironmentSwitch, TakesOnAndOffAndRefusesTheRest) {
    const auto with = [](const char* value, bool otherwise) {
        setenv("BF_TEST_SWITCH", value, 1);
        return bf::cuda::environment_switch("BF_TEST_SWITCH", otherwise);
    };
    EXPECT_TRUE(with("1", false));
    EXPECT_TRUE(with("on", false));
    EXPECT_FALSE(with("0", true));
    EXPECT_FALSE(with("false", true));
    EXPECT_TRUE(with("", true));
    EXPECT_THROW(with("maybe", true), bf::Error);
    unsetenv("BF_TEST_SWITCH");
    EXPECT_TRUE(bf::cuda::environment_switch("BF_TEST_SWITCH", true));
}

}  // namespace
