#include "bf/base/random.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace {

// Known answers of Random123 for Philox4x32-10.
TEST(Philox, KnownAnswers) {
    const auto zero = bf::philox(0, 0, 0);
    EXPECT_EQ(zero.v[0], 0x6627e8d5u);
    EXPECT_EQ(zero.v[1], 0xe169c58du);
    EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
    EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
    const auto ones = bf::philox(~0ull, ~0ull, ~0ull);
    EXPECT_EQ(ones.v[0], 0x408f276du);
    EXPECT_EQ(ones.v[1], 0x41c83b0eu);
    EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
    EXPECT_EQ(ones.v[3], 0x6d5451fdu);
}

TEST(Rng, MomentsOfUniformAndNormal) {
    bf::Rng rng(3);
    double sum = 0, squares = 0, normal = 0, normal_squares = 0;
    const int n = 200000;
    for (int i = 0; i < n; ++i) {
        const double u = static_cast<double>(rng.uniform()), g = static_cast<double>(rng.normal());
        ASSERT_GE(u, 0);
        ASSERT_LT(u, 1);
        sum += u;
        squares += u * u;
        normal += g;
        normal_squares += g * g;
    }
    EXPECT_NEAR(sum / n, 0.5, 0.005);
    EXPECT_NEAR(squares / n, 1.0 / 3, 0.005);
    EXPECT_NEAR(normal / n, 0, 0.01);
    EXPECT_NEAR(normal_squares / n, 1, 0.02);
}

TEST(Rng, NamedByAllItsKeys) {
    using bf::Rng;
    using bf::Stream;
    const auto first = [](Rng r) { return r.bits(); };
    const auto base = first(Rng(1, Stream::augment, 2, 3));
    EXPECT_EQ(base, first(Rng(1, Stream::augment, 2, 3)));
    EXPECT_NE(base, first(Rng(2, Stream::augment, 2, 3)));
    EXPECT_NE(base, first(Rng(1, Stream::shuffle, 2, 3)));
    EXPECT_NE(base, first(Rng(1, Stream::augment, 3, 3)));
    EXPECT_NE(base, first(Rng(1, Stream::augment, 2, 4)));
}

TEST(Rng, BelowCoversItsRangeEvenly) {
    bf::Rng rng(5);
    int counts[7] = {};
    for (int i = 0; i < 70000; ++i) ++counts[rng.below(7)];
    for (int c : counts) EXPECT_NEAR(c, 10000, 500);
}

}  // namespace
