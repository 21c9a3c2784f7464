#include "bf/ops/margin_head.hpp"

#include <gtest/gtest.h>

#include "bf/autograd/gradcheck.hpp"
#include "bf/nn/init.hpp"
#include "golden_heads.hpp"

namespace {

using bf::ClassifierMemory;
using bf::DType;
using bf::HeadKind;
using bf::Margin;
using bf::MarginHead;
using bf::Tensor;
using bf::Var;

Tensor some_labels(std::vector<std::int64_t> v) {
    return Tensor::from<std::int64_t>(v, {static_cast<std::int64_t>(v.size())});
}

TEST(MarginHead, GoldenStepsInF64) { golden_heads::run_golden_heads(DType::f64, bf::cpu_device); }
TEST(MarginHead, GoldenStepsInF32) { golden_heads::run_golden_heads(DType::f32, bf::cpu_device); }

/// Rows that stay away from the kinks: norms from inside to outside of MagFace's limits, none near them.
Tensor rows_of_norms(const std::vector<double>& norms, std::uint64_t seed) {
    const std::int64_t dim = 6;
    const Tensor x = bf::Init(seed, DType::f64).normal({static_cast<std::int64_t>(norms.size()), dim}, 1);
    for (std::size_t r = 0; r < norms.size(); ++r) {
        double* row = x.data<double>() + static_cast<std::int64_t>(r) * dim;
        double squares = 0;
        for (std::int64_t d = 0; d < dim; ++d) squares += row[d] * row[d];
        for (std::int64_t d = 0; d < dim; ++d) row[d] *= norms[r] / std::sqrt(squares);
    }
    return x;
}

// Central differences move norms, and with them AdaFace's margins, which have no gradient: h = 0 holds them; that rows
// with their own h have the right one, the golden steps say.
TEST(MarginHead, GradcheckWithAndWithoutMemory) {
    const Tensor x = rows_of_norms({3, 20, 50, 90, 140}, 4), memory = rows_of_norms({2, 30, 60, 200}, 5);
    const Tensor w = bf::Init(6, DType::f64).normal({7, 6}, 0.3);
    const Tensor y = some_labels({0, 3, 3, 6, 2}), memory_y = some_labels({6, 1, 0, 3});
    for (const std::string& name : golden_heads::names) {
        if (name == "magface_detached") continue;  // its margins move without a gradient
        const Margin margin = golden_heads::head_named(name).first;
        bf::HeadRule rule = golden_heads::head_named(name).second;
        rule.h = 0;
        for (const bool remembers : {false, true}) {
            const auto result_of = [&](const Var& e, const Var& v) {
                const MarginHead head(rule);  // each evaluation draws the same
                bf::MarginSoftmaxOptions options{.margin = margin, .head = &head};
                if (remembers) options.memory = {memory, memory_y, 4};
                return bf::margin_softmax(e, v, y, options);
            };
            // L_enc as a function of e; its gradient for W is that of L_cls, which without memory and penalty is the
            // same
            const auto of_rows = [&](const std::vector<Var>& in) { return result_of(in[0], Var(w)).loss; };
            const auto rows = bf::gradcheck(of_rows, {x}, {.tolerance = 1e-6});
            EXPECT_TRUE(rows.ok) << name << (remembers ? " with memory: " : ": ") << rows.message;
            // W by hand: one direction, central differences of L_cls
            const Var leaf = Var::leaf(w.clone());
            bf::backward(result_of(Var(x), leaf).loss);
            const Tensor direction = bf::Init(7, DType::f64).normal(w.shape(), 1);
            const auto at = [&](double t) {
                const Tensor moved = w.clone();
                for (std::int64_t i = 0; i < w.numel(); ++i) moved.data<double>()[i] += t * direction.data<double>()[i];
                return result_of(Var(x), Var(moved)).classifier_loss.item();
            };
            double want = 0;
            for (std::int64_t i = 0; i < w.numel(); ++i)
                want += leaf.grad().data<double>()[i] * direction.data<double>()[i];
            EXPECT_NEAR((at(1e-6) - at(-1e-6)) / 2e-6, want, 1e-6 * std::max(1.0, std::abs(want))) << name;
        }
    }
}

TEST(MarginHead, AdaFaceClipsAnglesNormsAndScores) {
    const Margin margin = bf::adaface(64, 0.4);
    const bf::HeadRule rule{.kind = HeadKind::adaface};
    const bf::math::NormStatistics s{20, 1};
    const auto margins = [&](double norm) { return bf::math::row_margins(rule, margin, norm, s, 0, 0); };
    EXPECT_NEAR(margins(20).m2, 0, 1e-15);
    EXPECT_NEAR(margins(20).m3, 0.4, 1e-15);
    EXPECT_NEAR(margins(21).m2, -0.4 * 0.333 / 1.001, 1e-15);
    EXPECT_NEAR(margins(21).m3, 0.4 + 0.4 * 0.333 / 1.001, 1e-15);
    EXPECT_NEAR(margins(500).m2, -0.4, 1e-15);  // z / h is limited to 1
    EXPECT_NEAR(margins(500).m3, 0.8, 1e-15);
    EXPECT_NEAR(margins(0).m2, 0.4, 1e-15);
    EXPECT_NEAR(margins(0).m3, 0, 1e-15);
    EXPECT_EQ(bf::math::safe_norm(0), 0.001);
    EXPECT_EQ(bf::math::safe_norm(101), 100);
    // the angle is limited to [eps, pi - eps], where the slope is 0
    const auto low = margin.with(-0.4, 0.8)(std::cos(0.3)), high = margin.with(0.4, 0)(std::cos(3.0));
    EXPECT_NEAR(low.phi, std::cos(1e-3) - 0.8, 1e-15);
    EXPECT_EQ(low.slope, 0);
    EXPECT_NEAR(high.phi, std::cos(3.14159265358979323846 - 1e-3), 1e-15);
    EXPECT_EQ(high.slope, 0);
}

TEST(MarginHead, StatisticsComeFromTheBatchAloneOnceACall) {
    const MarginHead plain({.kind = HeadKind::adaface}), with({.kind = HeadKind::adaface});
    const Tensor x = rows_of_norms({3, 20, 50}, 4), y = some_labels({0, 3, 1});
    const Var w = Var::leaf(bf::Init(6, DType::f64).normal({7, 6}, 0.3));
    const ClassifierMemory memory{rows_of_norms({80, 90}, 5), some_labels({6, 1}), 2};
    bf::margin_softmax(Var(x), w, y, {.margin = bf::adaface(), .head = &plain});
    bf::margin_softmax(Var(x), w, y, {.margin = bf::adaface(), .memory = memory, .head = &with});
    const Tensor a = plain.save_state().at("head.norms"), b = with.save_state().at("head.norms");
    EXPECT_NEAR(a.data<double>()[0], 0.99 * 20 + 0.01 * 73.0 / 3, 1e-12);
    for (int i = 0; i < 2; ++i) EXPECT_EQ(a.data<double>()[i], b.data<double>()[i]);
    // one row has no deviation
    bf::margin_softmax(Var(rows_of_norms({50}, 4)), w, some_labels({2}), {.margin = bf::adaface(), .head = &with});
    EXPECT_NEAR(b.data<double>()[0], 0.99 * a.data<double>()[0] + 0.5, 1e-12);
    EXPECT_NEAR(b.data<double>()[1], a.data<double>()[1], 1e-12);
}

TEST(MarginHead, ElasticDrawsAreNormalAndTheirOwn) {
    double sum = 0, squares = 0;
    const int n = 20000;
    for (int i = 0; i < n; ++i) {
        const double d = bf::math::margin_draw(5, 1, static_cast<std::uint64_t>(i));
        sum += d;
        squares += d * d;
    }
    EXPECT_NEAR(sum / n, 0, 0.03);
    EXPECT_NEAR(squares / n, 1, 0.03);
    EXPECT_EQ(bf::math::margin_draw(5, 1, 3), bf::math::margin_draw(5, 1, 3));
    EXPECT_NE(bf::math::margin_draw(5, 1, 3), bf::math::margin_draw(5, 2, 3));
    EXPECT_NE(bf::math::margin_draw(5, 1, 3), bf::math::margin_draw(6, 1, 3));
    EXPECT_NE(bf::math::margin_draw(5, 1, 3), bf::math::margin_draw(5, 1, 3 + bf::math::memory_draws));
}

// Without its rule's spread each head is the head that it grew from, to the bit.
TEST(MarginHead, WithoutSpreadAHeadIsThePlainOne) {
    const Tensor x = rows_of_norms({3, 20, 50, 90, 140}, 4), y = some_labels({0, 3, 3, 6, 2});
    const auto run = [&](const Margin& margin, const MarginHead* head) {
        const Var e = Var::leaf(x.clone()), w = Var::leaf(bf::Init(6, DType::f64).normal({7, 6}, 0.3));
        bf::backward(bf::margin_softmax(e, w, y, {.margin = margin, .head = head}).loss);
        return std::pair{e.grad(), w.grad()};
    };
    const MarginHead fixed, elastic({.kind = HeadKind::elasticface, .sigma = 0}),
        mag({.kind = HeadKind::magface, .l_m = 0.5, .u_m = 0.5, .lambda_g = 0});
    for (const Margin& margin : {bf::arcface(16), bf::cosface(16)}) {
        const auto want = run(margin, nullptr);
        for (const MarginHead* head : {&fixed, &elastic, &mag}) {
            if (head == &mag && margin.kind != bf::MarginKind::arcface) continue;
            const auto got = run(margin, head);
            for (std::int64_t i = 0; i < x.numel(); ++i)
                EXPECT_EQ(got.first.data<double>()[i], want.first.data<double>()[i]);
            for (std::int64_t i = 0; i < want.second.numel(); ++i)
                EXPECT_EQ(got.second.data<double>()[i], want.second.data<double>()[i]);
        }
    }
}

TEST(MarginHead, StateIsSavedAndDamageNoticed) {
    const Tensor x = rows_of_norms({3, 20, 50}, 4), y = some_labels({0, 3, 1});
    const Var w = Var::leaf(bf::Init(6, DType::f64).normal({7, 6}, 0.3));
    for (const char* name : {"adaface", "elastic_arc", "magface"}) {
        const auto [margin, rule] = golden_heads::head_named(name);
        const MarginHead whole(rule), resumed(rule);
        const bf::MarginSoftmaxOptions a{.margin = margin, .head = &whole}, b{.margin = margin, .head = &resumed};
        bf::margin_softmax(Var(x), w, y, a);
        bf::margin_softmax(Var(x), w, y, a);
        resumed.load_state(whole.save_state());
        EXPECT_EQ(bf::margin_softmax(Var(x), w, y, a).loss.value().item(),
                  bf::margin_softmax(Var(x), w, y, b).loss.value().item())
            << name;
        for (const auto& [key, tensor] : whole.save_state()) {
            EXPECT_THROW(resumed.load_state({{key, Tensor::zeros({3}, tensor.options())}}), bf::Error) << name;
            EXPECT_THROW(resumed.load_state({{key, Tensor::zeros(tensor.shape())}}), bf::Error) << name;
        }
        resumed.load_state({});  // saved under another head
    }
}

TEST(MarginHead, GoesWithItsMarginOnly) {
    const Tensor x = rows_of_norms({3, 20, 50}, 4), y = some_labels({0, 3, 1});
    const Var w = Var::leaf(bf::Init(6, DType::f64).normal({7, 6}, 0.3));
    const MarginHead ada({.kind = HeadKind::adaface}), mag({.kind = HeadKind::magface});
    EXPECT_THROW(bf::margin_softmax(Var(x), w, y, {.margin = bf::arcface(), .head = &ada}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(Var(x), w, y, {.margin = bf::cosface(), .head = &mag}), bf::Error);
    const auto own = [](double c) { return bf::MarginValue<double>{c, 1}; };
    EXPECT_THROW(bf::margin_softmax(Var(x), w, y, own, 16, {.head = &mag}), bf::Error);
}

}  // namespace
