#include "bf/train/embed.hpp"

#include <gtest/gtest.h>

#include "bf/data/synthetic.hpp"

namespace {

using bf::Tensor;

/// (3, 4) for images and (-3, 4) for mirrored ones, which come second.
struct TwoPasses : bf::Module {
    int calls = 0;
    bf::Var forward(const bf::Var& x) override {
        EXPECT_FALSE(training());
        const float sign = calls++ % 2 ? -1.0f : 1.0f;
        Tensor e = Tensor::empty({x.shape()[0], 2});
        for (std::int64_t i = 0; i < e.dim(0); ++i) {
            e.data<float>()[2 * i] = 3 * sign;
            e.data<float>()[2 * i + 1] = 4;
        }
        return bf::Var(e);
    }
};

TEST(Embed, TheNormIsThatOfThePassesNotOfTheirSum) {
    const bf::SyntheticFaces faces({.identities = 1, .images_per_identity = 5, .size = 16});
    const std::vector<std::int64_t> all{0, 1, 2, 3, 4};
    TwoPasses net;
    double norm = 0;
    const Tensor e = bf::embed(
        net, faces, all, 16, {.batch_size = 2}, [](std::int64_t) {}, &norm);
    EXPECT_EQ(e.shape(), (bf::Shape{5, 2}));
    EXPECT_EQ(e.data<float>()[9], 8);
    EXPECT_NEAR(norm, 5, 1e-6);
    EXPECT_TRUE(net.training());
}

TEST(Embed, AnExceptionLeavesTheModeAsItWas) {
    const bf::SyntheticFaces faces({.identities = 1, .images_per_identity = 2, .size = 16});
    TwoPasses net;
    const auto run = [&](std::int64_t batch) {
        bf::embed(net, faces, std::vector<std::int64_t>{0, 1}, 16, {.batch_size = batch},
                  [](std::int64_t) { throw 1; });
    };
    EXPECT_THROW(run(2), int);
    EXPECT_TRUE(net.training());
    EXPECT_THROW(run(0), bf::Error);
    EXPECT_TRUE(net.training());
}

TEST(Embed, EachModuleReturnsToItsOwnMode) {
    struct Frozen : TwoPasses {
        std::shared_ptr<bf::Sequential> body = add_child("body", std::make_shared<bf::Sequential>());
        std::shared_ptr<TwoPasses> kept = body->add(std::make_shared<TwoPasses>()),
                                   frozen = body->add(std::make_shared<TwoPasses>());
        bf::Var forward(const bf::Var& x) override {
            EXPECT_FALSE(body->training() || kept->training() || frozen->training());
            return TwoPasses::forward(x);
        }
    };
    const bf::SyntheticFaces faces({.identities = 1, .images_per_identity = 2, .size = 16});
    Frozen net;
    net.frozen->eval();
    const auto check = [&] {
        EXPECT_TRUE(net.training() && net.body->training() && net.kept->training());
        EXPECT_FALSE(net.frozen->training());
    };
    bf::embed(net, faces, 16);
    EXPECT_EQ(net.calls, 2);
    check();
    const std::vector<std::int64_t> both{0, 1};
    EXPECT_THROW(bf::embed(net, faces, both, 16, {}, [](std::int64_t) { throw 1; }), int);
    check();

    Frozen evaluated;  // and a network in evaluation mode with a part that is not
    evaluated.eval();
    evaluated.kept->train();
    bf::embed(evaluated, faces, 16);
    EXPECT_FALSE(evaluated.training() || evaluated.body->training() || evaluated.frozen->training());
    EXPECT_TRUE(evaluated.kept->training());
}

}  // namespace
