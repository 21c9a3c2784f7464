#include "bf/optim/optimizer.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "bf/optim/schedule.hpp"

namespace {

using bf::Parameter;
using bf::ParameterGroup;
using bf::Tensor;
using bf::Var;

Parameter weights(const std::string& name = "w") {
    return {name, Var::leaf(Tensor::from<double>({1.0, -2.0, 0.5, 3.0, -0.25}, {5})), true, false};
}

void set_gradient(const Parameter& p, int t) {
    Tensor g = Tensor::empty({5}, {.dtype = bf::DType::f64});
    for (int i = 0; i < 5; ++i) g.data<double>()[i] = 0.3 * p.var.value().data<double>()[i] + std::sin(t + i);
    p.var.zero_grad();
    p.var.accumulate(g);
}

std::vector<double> golden(int line) {
    std::ifstream in(std::string(BF_TEST_DIR) + "/optim/optimizer_golden.txt");
    std::vector<double> values(20);
    for (double& v : values) in >> v;
    EXPECT_TRUE(in);
    return {values.begin() + 5 * line, values.begin() + 5 * line + 5};
}

template <class Rule>
void expect_golden(Rule&& rule, const Parameter& p, int line) {
    for (int t = 0; t < 10; ++t) {
        set_gradient(p, t);
        rule.step(0.05);
    }
    for (int i = 0; i < 5; ++i)
        EXPECT_NEAR(p.var.value().data<double>()[i], golden(line)[static_cast<std::size_t>(i)], 1e-13);
}

TEST(Sgd, TenStepsAsTheRuleSays) {
    const Parameter p = weights();
    expect_golden(bf::Sgd({ParameterGroup{.parameters = {p}, .weight_decay = 5e-4}}), p, 0);
}

TEST(Sgd, Nesterov) {
    const Parameter p = weights();
    expect_golden(bf::Sgd({ParameterGroup{.parameters = {p}, .weight_decay = 5e-4}}, {.nesterov = true}), p, 1);
}

TEST(AdamW, TenStepsAsTheRuleSays) {
    const Parameter p = weights();
    expect_golden(bf::AdamW({ParameterGroup{.parameters = {p}, .weight_decay = 0.1}}), p, 2);
}

TEST(Adam, TenStepsWithTheDecayInTheGradient) {
    const Parameter p = weights();
    expect_golden(bf::AdamW({ParameterGroup{.parameters = {p}, .weight_decay = 0.1}}, {.coupled = true}), p, 3);
}

TEST(Optimizer, DecayLeavesNormAndBiasAlone) {
    Parameter kept = weights("kept"), decayed = weights("decayed");
    kept.norm_or_bias = true;
    for (const Parameter& p : {kept, decayed}) p.var.accumulate(bf::full({5}, 0, bf::DType::f64));
    bf::Sgd sgd({ParameterGroup{.parameters = {kept, decayed}, .weight_decay = 0.1, .decay_norm_and_bias = false}});
    sgd.step(1);
    EXPECT_EQ(kept.var.value().data<double>()[0], 1);
    EXPECT_DOUBLE_EQ(decayed.var.value().data<double>()[0], 0.9);
}

TEST(Optimizer, ClippingScalesTheUpdateAndLeavesTheGradient) {
    const Parameter a = weights("a"), b = weights("b");
    a.var.accumulate(Tensor::from<double>({3, 0, 0, 0, 0}, {5}));
    b.var.accumulate(Tensor::from<double>({4, 0, 0, 0, 0}, {5}));
    bf::Sgd global({ParameterGroup{.parameters = {a}}, ParameterGroup{.parameters = {b}}},
                   {.momentum = 0, .clip_norm = 1});
    EXPECT_DOUBLE_EQ(global.step(1).item(), 5);
    EXPECT_DOUBLE_EQ(a.var.value().data<double>()[0], 1 - 3.0 / 5);
    EXPECT_DOUBLE_EQ(b.var.value().data<double>()[0], 1 - 4.0 / 5);
    EXPECT_EQ(a.var.grad().data<double>()[0], 3);

    const Parameter c = weights("c");
    c.var.accumulate(Tensor::from<double>({4, 0, 0, 0, 0}, {5}));
    bf::Sgd group({ParameterGroup{.parameters = {c}, .clip_norm = 2}}, {.momentum = 0});
    group.step(1);
    EXPECT_DOUBLE_EQ(c.var.value().data<double>()[0], 1 - 2);
}

TEST(Optimizer, GradientThatIsNotFiniteStopsBeforeTheUpdate) {
    const Parameter p = weights();
    p.var.accumulate(bf::full({5}, std::nan(""), bf::DType::f64));
    bf::Sgd sgd({ParameterGroup{.parameters = {p}}});
    try {
        sgd.step(1, true);
        FAIL();
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::diverged);
    }
    EXPECT_EQ(p.var.value().data<double>()[0], 1);
}

TEST(Optimizer, StateContinuesBitForBit) {
    const Parameter a = weights(), b = weights();
    bf::Sgd first({ParameterGroup{.parameters = {a}}});
    for (int t = 0; t < 6; ++t) {
        set_gradient(a, t);
        first.step(0.05);
    }
    const Parameter resumed = {"w", Var::leaf(a.var.value().clone())};
    bf::StateDict saved;
    for (const auto& [name, tensor] : first.state()) saved[name] = tensor.clone();
    bf::Sgd second({ParameterGroup{.parameters = {resumed}}});
    second.load_state(saved);
    for (int t = 6; t < 10; ++t) {
        set_gradient(a, t);
        first.step(0.05);
        set_gradient(resumed, t);
        second.step(0.05);
    }
    EXPECT_EQ(second.steps(), 10u);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(a.var.value().data<double>()[i], resumed.var.value().data<double>()[i]);
}

TEST(Schedule, WarmUpThenEachShape) {
    bf::Schedule s{.kind = bf::ScheduleKind::poly, .lr = 0.1, .warmup_steps = 10, .total_steps = 110};
    EXPECT_DOUBLE_EQ(s(0), 0);
    EXPECT_DOUBLE_EQ(s(5), 0.05);
    EXPECT_DOUBLE_EQ(s(10), 0.1);
    EXPECT_DOUBLE_EQ(s(60), 0.05);
    EXPECT_DOUBLE_EQ(s(110), 0);
    s.kind = bf::ScheduleKind::cosine;
    EXPECT_DOUBLE_EQ(s(60), 0.05);
    EXPECT_NEAR(s(35), 0.1 * 0.5 * (1 + std::sqrt(0.5)), 1e-12);
    s.kind = bf::ScheduleKind::step;
    s.milestones = {20, 40};
    EXPECT_DOUBLE_EQ(s(19), 0.1);
    EXPECT_NEAR(s(20), 0.01, 1e-15);
    EXPECT_NEAR(s(40), 0.001, 1e-15);
    s.kind = bf::ScheduleKind::constant;
    EXPECT_DOUBLE_EQ(s(99), 0.1);
}

}  // namespace
