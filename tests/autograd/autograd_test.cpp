#include <gtest/gtest.h>

#include "bf/autograd/gradcheck.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/ops/reduce.hpp"

namespace {

using bf::Tensor;
using bf::Var;

Var scalar(double v) { return Var::leaf(bf::full({1}, v, bf::DType::f64)); }

TEST(Backward, SharedValuesAddTheirGradients) {
    const Var x = scalar(3);
    const Var y = x * x + x;  // dy/dx = 2x + 1, through three paths
    bf::backward(y);
    EXPECT_DOUBLE_EQ(x.grad().item(), 7);
    EXPECT_DOUBLE_EQ(y.value().item(), 12);
}

TEST(Backward, GradientsAccumulateUntilZeroed) {
    const Var x = scalar(2);
    bf::backward(bf::square(x));
    bf::backward(bf::square(x));
    EXPECT_DOUBLE_EQ(x.grad().item(), 8);
    x.zero_grad();
    EXPECT_FALSE(x.grad().defined());
}

TEST(Backward, DeepGraphsDoNotRecurse) {
    const Var x = scalar(1);
    Var y = x;
    for (int i = 0; i < 200000; ++i) y = y + 0.0;
    bf::backward(y);
    EXPECT_DOUBLE_EQ(x.grad().item(), 1);
}

TEST(Backward, SavedTensorsAreReleasedOnTheWay) {
    const Var x = Var::leaf(bf::full({1 << 20}, 0.5));
    const auto base = bf::cpu_allocator().stats().in_use;
    {
        Var y = x;
        for (int i = 0; i < 8; ++i) y = bf::sigmoid(y);
        const Var loss = bf::mean(y);
        y = Var();
        bf::backward(loss);
    }
    // what remains is the leaf's gradient
    EXPECT_LE(bf::cpu_allocator().stats().in_use, base + (std::size_t{5} << 20));
}

TEST(NoGrad, RecordsNothing) {
    const Var x = scalar(2);
    {
        const bf::NoGrad guard;
        EXPECT_FALSE(bf::square(x).requires_grad());
    }
    EXPECT_TRUE(bf::square(x).requires_grad());
    EXPECT_FALSE(bf::square(x.detach()).requires_grad());
}

TEST(Backward, SaysWhyItCannotRun) {
    EXPECT_THROW(bf::backward(Var(bf::full({1}, 1))), bf::Error);
    EXPECT_THROW(bf::backward(Var::leaf(bf::full({2}, 1))), bf::Error);
}

TEST(Gradcheck, FindsAWrongGradient) {
    const auto wrong = [](const std::vector<Var>& v) {
        const Var x = v[0];
        Tensor y = bf::square(x.detach()).value();
        return bf::record(y, {x}, [x](const Tensor& dy) { x.accumulate(dy); });  // 1 instead of 2x
    };
    const auto result = bf::gradcheck(wrong, {bf::full({3}, 2, bf::DType::f64)});
    EXPECT_FALSE(result.ok);
    EXPECT_NE(result.message.find("input 0"), std::string::npos);
}

TEST(Errors, NameOpShapesAndWish) {
    try {
        bf::linear(Var(bf::full({2, 3}, 1)), Var(bf::full({4, 5}, 1)));
        FAIL();
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::usage);
        EXPECT_STREQ(e.what(), "linear: features differ; got x [2, 3] f32 cpu, weight [4, 5] f32 cpu");
    }
}

TEST(Backward, AGraphIsWalkedOnce) {
    const Var x = Var::leaf(bf::full({2}, 3));
    const Var y = bf::square(x), a = bf::sum(y), b = bf::mean(y);
    bf::backward(a);
    EXPECT_THROW(bf::backward(b), bf::Error);  // y's part of the graph is gone
    EXPECT_THROW(bf::backward(a), bf::Error);
}

}  // namespace
