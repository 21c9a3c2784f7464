#include "bf/autograd/recompute.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "bf/autograd/gradcheck.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/ops/reduce.hpp"

namespace {

using bf::Tensor;
using bf::Var;

Tensor random(const bf::Shape& shape, bf::DType dtype, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    bf::Rng rng(seed, bf::Stream::test);
    for (float& v : t.span<float>()) v = rng.normal();
    return bf::converted(t, dtype, bf::Format::plain);
}

::testing::AssertionResult same_bits(const Tensor& a, const Tensor& b) {
    if (!a.defined() || !b.defined() || a.shape() != b.shape() || a.dtype() != b.dtype())
        return ::testing::AssertionFailure() << "other tensors";
    if (std::memcmp(a.raw(), b.raw(), a.bytes()) != 0) return ::testing::AssertionFailure() << "other bits";
    return ::testing::AssertionSuccess();
}

Var one_value(double v) { return Var::leaf(bf::full({1}, v, bf::DType::f64)); }

struct Gradients {
    Tensor y, dx, dw, db;
};

/// Three segments of the same function, each recomputed or not; the residual uses x twice.
Gradients run(bool recomputed, bool leaf, bf::DType dtype) {
    const Var x = leaf ? Var::leaf(random({5, 7}, dtype, 1)) : Var(random({5, 7}, dtype, 1));
    const Var w = Var::leaf(random({7, 7}, dtype, 2)), b = Var::leaf(random({7}, dtype, 3));
    const auto f = [&](std::uint64_t step) {
        return [=](const Var& v) { return bf::sigmoid(bf::linear(bf::dropout(v, 0.3, 11, step), w, b)) + v; };
    };
    Var y = x;
    for (std::uint64_t step = 0; step < 3; ++step) y = recomputed ? bf::recompute(f(step), y) : f(step)(y);
    bf::backward(bf::mean(bf::square(y)));
    return {y.value(), x.grad(), w.grad(), b.grad()};
}

TEST(Recompute, GivesTheSameBits) {
    for (const bf::DType dtype : {bf::DType::f32, bf::DType::f64})
        for (const bool leaf : {false, true}) {
            const Gradients a = run(false, leaf, dtype), b = run(true, leaf, dtype);
            EXPECT_TRUE(same_bits(a.y, b.y));
            EXPECT_TRUE(same_bits(a.dw, b.dw));
            EXPECT_TRUE(same_bits(a.db, b.db));
            EXPECT_EQ(b.dx.defined(), leaf);
            if (leaf) {
                EXPECT_TRUE(same_bits(a.dx, b.dx));
            }
        }
}

TEST(Recompute, PassesTheGradientCheckNestedAndWithCapturedValues) {
    const auto f = [](const std::vector<Var>& in) {
        const Var w = in[1], z = bf::sigmoid(bf::matmul(in[2], w));  // z belongs to the graph outside
        const Var y = bf::recompute(
            [=](const Var& x) {
                const Var inner = bf::recompute([=](const Var& v) { return bf::sigmoid(v * z) + z; }, bf::square(x));
                return bf::matmul(inner, w);
            },
            in[0]);
        return bf::matmul(y, z);
    };
    const auto result = bf::gradcheck(
        f, {random({4, 4}, bf::DType::f64, 1), random({4, 4}, bf::DType::f64, 2), random({4, 4}, bf::DType::f64, 3)});
    EXPECT_TRUE(result.ok) << result.message;
}

TEST(Recompute, RunsTwiceOnlyWhereAGradientIsWanted) {
    int runs = 0;
    std::vector<bool> second;
    const auto f = [&](const Var& v) {
        ++runs;
        second.push_back(bf::recomputing());
        return bf::square(v);
    };
    const Var x = one_value(3);
    const Var y = bf::recompute(f, x);
    EXPECT_EQ(runs, 1);
    bf::backward(y);
    EXPECT_EQ(second, (std::vector<bool>{false, true}));
    EXPECT_FALSE(bf::recomputing());
    EXPECT_EQ(x.grad().item(), 6);

    EXPECT_FALSE(bf::recompute(f, x.detach()).requires_grad());
    {
        const bf::NoGrad no_grad;
        EXPECT_FALSE(bf::recompute(f, x).requires_grad());
    }
    EXPECT_EQ(runs, 4);
}

TEST(Recompute, NestedOnesRunInTheSecondRunAsInAFirst) {
    std::vector<bool> inner, outer;
    const Var x = one_value(2);
    const auto g = [&](const Var& v) {
        inner.push_back(bf::recomputing());
        return bf::square(v);
    };
    const auto f = [&](const Var& v) {
        outer.push_back(bf::recomputing());
        return bf::recompute(g, bf::square(v));
    };
    bf::backward(bf::recompute(f, x));
    EXPECT_EQ(x.grad().item(), 32);
    EXPECT_EQ(outer, (std::vector<bool>{false, true}));
    EXPECT_EQ(inner, (std::vector<bool>{false, true, true}));  // only the very first may change statistics
}

TEST(Recompute, WhatItsFunctionCutsOffGetsNoGradient) {
    const Var x = one_value(3), w = one_value(5);
    const auto cut = [&](const Var& v) {
        const bf::NoGrad no_grad;
        return v * w;
    };
    EXPECT_FALSE(bf::recompute(cut, x).requires_grad());
    bf::backward(bf::recompute([&](const Var& v) { return v * cut(v); }, x));
    EXPECT_EQ(x.grad().item(), 15);
    EXPECT_FALSE(w.grad().defined());
}

TEST(Recompute, AFunctionMayHandOnWhatItWasGiven) {
    const Var x = one_value(3), w = one_value(5);
    const Var z = bf::square(w);
    const Var y =
        bf::recompute([](const Var& v) { return v; }, bf::square(x)) * bf::recompute([=](const Var&) { return z; }, x);
    bf::backward(y);
    EXPECT_EQ(x.grad().item(), 150);
    EXPECT_EQ(w.grad().item(), 90);
}

TEST(Recompute, WorksWhereBackwardRunsUnderNoGrad) {
    const Var x = one_value(3);
    const Var y = bf::recompute([](const Var& v) { return bf::square(v); }, x);
    const bf::NoGrad no_grad;
    bf::backward(y);
    EXPECT_EQ(x.grad().item(), 6);
    EXPECT_FALSE(bf::square(x).requires_grad());
}

TEST(Recompute, LongChainsDoNotRecurse) {
    const Var x = one_value(1);
    Var y = x;
    for (int i = 0; i < 50000; ++i) y = bf::recompute([](const Var& v) { return v + 0.0; }, y);
    bf::backward(y);
    EXPECT_EQ(x.grad().item(), 1);
}

TEST(Recompute, KeepsTheInputsOfSegmentsAndOneSegmentsInside) {
    constexpr std::int64_t n = 1 << 16;
    const auto peak = [&](bool recomputed) {
        const Var x = Var::leaf(bf::full({n}, 0.5));
        const auto segment = [](const Var& v) {
            Var y = v;
            for (int i = 0; i < 8; ++i) y = bf::sigmoid(y);
            return y + v;
        };
        const auto base = bf::cpu_allocator().stats().in_use;
        bf::cpu_allocator().reset_peak();
        Var y = x;
        for (int i = 0; i < 8; ++i) y = recomputed ? bf::recompute(segment, y) : segment(y);
        const Var loss = bf::mean(y);
        y = Var();
        bf::backward(loss);
        return (bf::cpu_allocator().stats().peak - base) / (n * sizeof(float));
    };
    EXPECT_GE(peak(false), 64U);
    EXPECT_LE(peak(true), 17U);  // 7 inputs of segments, 8 values inside the last one, 2 gradients
}

TEST(Recompute, AnExceptionLeavesTheThreadAsItWas) {
    int runs = 0, failing = 0;
    const Var x = one_value(3), w = one_value(2);
    const auto f = [&](const Var& v) {
        if (++runs == failing) throw std::runtime_error("no");
        const Var y = bf::square(v) * w;
        // and an error of the second run's own backward pass
        return bf::record(y.value(), {y}, [&runs, y](const Tensor& dy) {
            if (runs == 6) throw std::logic_error("no");
            y.accumulate(dy);
        });
    };
    const auto sane = [&] {
        EXPECT_FALSE(bf::recomputing());
        EXPECT_TRUE(bf::square(x).requires_grad());
        const bf::NoGrad no_grad;
        EXPECT_FALSE(bf::square(x).requires_grad());
    };
    failing = 1;
    EXPECT_THROW(bf::recompute(f, x), std::runtime_error);
    sane();
    failing = 3;
    const Var y = bf::recompute(f, x);
    EXPECT_THROW(bf::backward(y), std::runtime_error);
    sane();
    EXPECT_THROW(bf::backward(y), bf::Error);  // the graph was walked, up to there
    failing = 0;
    runs = 4;
    EXPECT_THROW(bf::backward(bf::recompute(f, x)), std::logic_error);
    sane();
    EXPECT_FALSE(x.grad().defined());
    runs = 10;
    bf::backward(bf::recompute(f, x));
    EXPECT_EQ(x.grad().item(), 12);
    EXPECT_EQ(w.grad().item(), 9);
}

TEST(Recompute, SaysThatTheSecondRunDiffers) {
    int runs = 0;
    const Var x = one_value(3);
    const auto message = [&](const auto& f) -> std::string {
        const Var y = bf::recompute(f, x);
        try {
            bf::backward(y);
        } catch (const bf::Error& e) {
            return e.what();
        }
        return "nothing";
    };
    const auto shrinks = [&](const Var& v) { return ++runs % 2 ? v * v : bf::reshape(v * v, {1, 1}); };
    EXPECT_EQ(message(shrinks),
              "recompute: the second run differs; got [1, 1] f64 cpu, want [1]; hint: the function must do the same "
              "both times");
    const auto forgets = [&](const Var& v) { return ++runs % 2 ? v * v : v.detach(); };
    EXPECT_NE(message(forgets).find("the output hangs on nothing that wants a gradient; got [1] f64 cpu"),
              std::string::npos);
    EXPECT_FALSE(x.grad().defined());
}

}  // namespace
