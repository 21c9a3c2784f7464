// CurricularFace and sub-center ArcFace: golden vectors, gradients by differences, and what their state does.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "bf/autograd/gradcheck.hpp"
#include "bf/nn/init.hpp"
#include "class_heads_steps.hpp"

namespace class_heads_golden {
namespace {

using bf::DType;
using bf::Tensor;
using bf::Var;

Tensor numbers(std::vector<std::int64_t> v) {
    return Tensor::from<std::int64_t>(v, {static_cast<std::int64_t>(v.size())});
}
Tensor labels_below(std::int64_t n, std::int64_t k) {
    std::vector<std::int64_t> v;
    for (std::int64_t i = 0; i < n; ++i) v.push_back(i * 7 % k);
    return numbers(v);
}
/// Rows, classes, D and memory rows.
struct Sizes {
    std::int64_t b, k, d, q;
};
const Sizes odd_sizes[] = {{1, 1, 1, 0}, {1, 1, 3, 1}, {1, 2, 2, 0}, {4, 9, 5, 0}, {3, 13, 7, 5}, {5, 3, 2, 1}};

TEST(CurricularFace, GoldenStepsInF64) { run_curricular_steps(DType::f64, bf::cpu_device); }
TEST(CurricularFace, GoldenStepsInF32) { run_curricular_steps(DType::f32, bf::cpu_device); }

/// The batch loss by differences for both inputs, and L_cls of batch and memory for W alone.
void expect_both_gradients(const Tensor& e0, const Tensor& w0, const Tensor& y, const bf::MarginSoftmaxOptions& full) {
    // the recorded call moves t, those of the differences leave it there
    bf::MarginSoftmaxOptions batch = full;
    batch.memory = {};
    const auto loss = [&](const std::vector<Var>& v) { return bf::margin_softmax(v[0], v[1], y, batch).loss; };
    const auto result = bf::gradcheck(loss, {e0, w0}, {.tolerance = 1e-6});
    EXPECT_TRUE(result.ok) << result.message;
    if (full.memory.total == 0) return;
    const Var w = Var::leaf(w0.clone());
    bf::backward(bf::margin_softmax(Var(e0), w, y, full).loss);
    const bf::NoGrad none;
    for (std::int64_t i = 0; i < w0.numel(); ++i) {
        const double h = 1e-6;
        const auto moved = [&](double step) {
            const Tensor there = w0.clone();
            there.data<double>()[i] += step;
            return bf::margin_softmax(Var(e0), Var(there), y, full).classifier_loss.item();
        };
        EXPECT_NEAR(w.grad().data<double>()[i], (moved(h) - moved(-h)) / (2 * h), 1e-6) << i;
    }
}

TEST(CurricularFace, Gradcheck) {
    bf::Init init(11, DType::f64);
    for (const Sizes& n : odd_sizes) {
        SCOPED_TRACE(bf::concat(n.b, " x ", n.k));
        const Tensor y = labels_below(n.b, n.k), e0 = init.normal({n.b, n.d}, 1), w0 = init.normal({n.k, n.d}, 1);
        bf::MarginSoftmaxOptions options{.margin = bf::arcface(8), .curricular_t = bf::full({}, 0.3, DType::f64)};
        if (n.q) options.memory = {init.normal({n.q, n.d}, 1), labels_below(n.q, n.k), n.q};
        expect_both_gradients(e0, w0, y, options);
    }
}

TEST(CurricularFace, TMovesInTrainingOnlyAndGradientsKeepTheirOwn) {
    bf::Init init(12, DType::f64);
    const Tensor y = labels_below(4, 9), x = init.normal({4, 5}, 1), w0 = init.normal({9, 5}, 1);
    const Tensor t = bf::full({}, 0.25, DType::f64), other = bf::full({}, 0.25, DType::f64);
    {
        const bf::NoGrad none;
        bf::margin_softmax(Var(x), Var(w0), y, {.margin = bf::arcface(16), .curricular_t = t});
        EXPECT_EQ(t.item(), 0.25);
    }
    const Var e = Var::leaf(x), w = Var::leaf(w0), e2 = Var::leaf(x), w2 = Var::leaf(w0);
    const auto first = bf::margin_softmax(e, w, y, {.margin = bf::arcface(16), .curricular_t = t});
    EXPECT_NE(t.item(), 0.25);
    bf::kernels(bf::cpu_device).fill(bf::context(bf::cpu_device), t, 7);
    bf::backward(first.loss);
    bf::backward(bf::margin_softmax(e2, w2, y, {.margin = bf::arcface(16), .curricular_t = other}).loss);
    EXPECT_EQ(std::memcmp(w.grad().raw(), w2.grad().raw(), w.grad().bytes()), 0);
    EXPECT_EQ(std::memcmp(e.grad().raw(), e2.grad().raw(), e.grad().bytes()), 0);
}

TEST(CurricularFace, SaysWhatDoesNotFit) {
    const Var e(bf::full({2, 4}, 1)), w(bf::full({3, 4}, 1));
    const Tensor t = bf::full({}, 0), y = numbers({0, 1});
    EXPECT_THROW(bf::margin_softmax(e, w, y, {.margin = bf::cosface(), .curricular_t = t}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, y, {.curricular_t = bf::full({2}, 0)}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, y, {.curricular_t = bf::full({}, 0, DType::f64)}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, y, bf::arcface(), 64, {.curricular_t = bf::full({2}, 0)}), bf::Error);
}

TEST(SubCenters, GoldenStepsOfBroadFaceInF64) { run_center_steps(DType::f64, bf::cpu_device); }
TEST(SubCenters, GoldenStepsOfBroadFaceInF32) { run_center_steps(DType::f32, bf::cpu_device); }

// As for CurricularFace; also both at once.
TEST(SubCenters, Gradcheck) {
    bf::Init init(13, DType::f64);
    for (const std::int64_t centers : {1, 2, 3, 5})
        for (const bool hard : {false, true})
            for (const Sizes& n : odd_sizes) {
                SCOPED_TRACE(bf::concat(centers, " centers, ", n.b, " x ", n.k, hard ? " hard" : ""));
                const Tensor y = labels_below(n.b, n.k), e0 = init.normal({n.b, n.d}, 1),
                             w0 = init.normal({n.k * centers, n.d}, 1);
                bf::MarginSoftmaxOptions options{.margin = bf::arcface(8), .centers = centers};
                if (hard) options.curricular_t = bf::full({}, 0.3, DType::f64);
                if (n.q) options.memory = {init.normal({n.q, n.d}, 1), labels_below(n.q, n.k * centers), n.q};
                expect_both_gradients(e0, w0, y, options);
            }
}

TEST(SubCenters, OneIsThePlainClassifierBitForBit) {
    bf::Init init(14);
    const Tensor x = init.normal({5, 8}, 1), w0 = init.normal({6, 8}, 1), y = labels_below(5, 6);
    const Var e = Var::leaf(x), w = Var::leaf(w0), e2 = Var::leaf(x), w2 = Var::leaf(w0);
    const auto r = bf::margin_softmax(e, w, y, {.centers = 1});
    bf::backward(r.loss);
    bf::backward(bf::margin_softmax(e2, w2, y, bf::MarginSoftmaxOptions{}).loss);
    EXPECT_EQ(r.target_rows.raw(), y.raw());
    EXPECT_EQ(std::memcmp(w.grad().raw(), w2.grad().raw(), w.grad().bytes()), 0);
    EXPECT_EQ(std::memcmp(e.grad().raw(), e2.grad().raw(), e.grad().bytes()), 0);
}

// Equal centers: the loss is that of one, and the first of each class takes the whole gradient.
TEST(SubCenters, TheFirstOfEqualOnesTakesTheGradient) {
    bf::Init init(15);
    const std::int64_t k = 50, d = 9, centers = 3;
    const Tensor x = init.normal({6, d}, 1), one = init.normal({k, d}, 1), all = Tensor::empty({k * centers, d}),
                 y = labels_below(6, k);
    for (std::int64_t i = 0; i < all.numel(); ++i)
        all.data<float>()[i] = one.data<float>()[i / (d * centers) * d + i % d];
    for (const bool hard : {false, true}) {
        const auto options = [&](std::int64_t c) {
            bf::MarginSoftmaxOptions o{.margin = bf::arcface(16), .centers = c};
            if (hard) o.curricular_t = bf::full({}, 0.5);
            return o;
        };
        const Var e = Var::leaf(x), w = Var::leaf(all), e1 = Var::leaf(x), w1 = Var::leaf(one);
        const auto r = bf::margin_softmax(e, w, y, options(centers)), r1 = bf::margin_softmax(e1, w1, y, options(1));
        bf::backward(r.loss);
        bf::backward(r1.loss);
        EXPECT_NEAR(r.loss.value().item(), r1.loss.value().item(), 1e-5);
        for (std::int64_t i = 0; i < 6; ++i)
            EXPECT_EQ(r.target_rows.data<std::int64_t>()[i], y.data<std::int64_t>()[i] * centers);
        for (std::int64_t i = 0; i < all.numel(); ++i) {
            const float got = w.grad().data<float>()[i], want = w1.grad().data<float>()[i / (d * centers) * d + i % d];
            if (i / d % centers == 0)
                EXPECT_NEAR(got, want, 1e-5);
            else
                EXPECT_EQ(got, 0);
        }
        for (std::int64_t i = 0; i < x.numel(); ++i)
            EXPECT_NEAR(e.grad().data<float>()[i], e1.grad().data<float>()[i], 1e-5);
    }
}

TEST(SubCenters, ShardsOfClassesJoin) {
    bf::Init init(16, DType::f64);
    const std::int64_t centers = 2;
    const Tensor x = init.normal({5, 6}, 1), w = init.normal({10 * centers, 6}, 1), y = numbers({0, 4, 5, 9, 2});
    const auto statistics = [&](std::int64_t begin, std::int64_t end, Tensor& targets) {
        bf::ClassifierRows rows{
            .x = x, .inverse_norm = {}, .labels = y, .target_logit = {}, .slope = {}, .log_sum_exp = {}};
        rows.hard_above = bf::full({5}, 0.1, DType::f64);
        rows.hard_shift = bf::full({}, 0.4, DType::f64);
        const Tensor part = w.rows(begin * centers, end * centers);
        bf::ClassifierWeights weights{
            part, Tensor::empty({part.dim(0)}, {.dtype = DType::f64}), begin, 16, DType::f32, centers};
        bf::kernels(bf::cpu_device).inverse_norms(bf::context(bf::cpu_device), part, weights.inverse_norm);
        const auto s = bf::classifier_statistics(rows, weights);
        targets = rows.target_rows;
        return s;
    };
    Tensor all, a, b, c;
    const auto whole = statistics(0, 10, all),
               joined = bf::join_statistics(bf::join_statistics(statistics(0, 4, a), statistics(4, 5, b)),
                                            statistics(5, 10, c));
    const auto value = [](const Tensor& t, std::int64_t i) { return t.data<double>()[i]; };
    for (std::int64_t i = 0; i < 5; ++i) {
        EXPECT_DOUBLE_EQ(value(whole.largest, i), value(joined.largest, i));
        EXPECT_NEAR(value(whole.sum, i), value(joined.sum, i), 1e-13);
        EXPECT_DOUBLE_EQ(value(whole.cosine, i), value(joined.cosine, i));
        EXPECT_DOUBLE_EQ(value(whole.plain, i), value(joined.plain, i));
        const std::int64_t label = y.data<std::int64_t>()[i];
        const auto row = [i](const Tensor& t) { return t.data<std::int64_t>()[i]; };
        EXPECT_EQ(row(a), label < 4 ? row(all) : -1);
        EXPECT_EQ(row(b), label == 4 ? row(all) : -1);
        EXPECT_EQ(row(c), label >= 5 ? row(all) : -1);
    }
}

// The queue through the hooks of the stage, with micro-batches, and what telemetry counts.
TEST(SubCenters, TheStageTakesInTheRowsThatWon) {
    bf::Init init(17);
    const std::int64_t centers = 3;
    const Var w = Var::leaf(init.normal({4 * centers, 5}, 1));
    const Tensor x = init.normal({6, 5}, 1), y = numbers({0, 3, 1, 1, 2, 0});
    bf::BroadFace broad({.queue = 6, .centers = centers}, 5);
    std::vector<bf::ForwardState> forwards;
    for (int m = 0; m < 2; ++m) {
        const Tensor e = x.rows(3 * m, 3 * m + 3), labels = y.rows(3 * m, 3 * m + 3);
        bf::ForwardState state{
            .step = 0, .micro_batch = m, .embeddings = e, .labels = labels, .indices = {}, .weight = w, .memory = {}};
        broad.after_forward(state);
        const auto r =
            bf::margin_softmax(Var(e), w, labels, {.batch_total = 6, .memory = state.memory, .centers = centers});
        state.target_rows = r.target_rows;
        forwards.push_back(state);
    }
    bf::StepState step{.step = 0, .weight = w, .forwards = forwards};
    broad.before_step(step);
    const bf::QueueRows ring = broad.queue().ring();
    for (std::int64_t i = 0; i < 6; ++i) {
        const std::int64_t row = ring.labels.data<std::int64_t>()[i];
        EXPECT_EQ(row / centers, y.data<std::int64_t>()[i]);
        double best = -2, here = -2;
        for (std::int64_t c = 0; c < centers; ++c) {
            const std::int64_t k = y.data<std::int64_t>()[i] * centers + c;
            double dot = 0, norm = 0;
            for (std::int64_t d = 0; d < 5; ++d) {
                const auto v = static_cast<double>(w.value().data<float>()[k * 5 + d]);
                dot += v * static_cast<double>(x.data<float>()[i * 5 + d]);
                norm += v * v;
            }
            best = std::max(best, dot / std::sqrt(norm));
            if (k == row) here = dot / std::sqrt(norm);
        }
        EXPECT_EQ(here, best);
        EXPECT_EQ(std::memcmp(ring.weights.data<float>() + i * 5, w.value().data<float>() + row * 5, 5 * sizeof(float)),
                  0);
    }
    EXPECT_EQ(broad.telemetry(w.value(), 1).distinct, 4);
}

TEST(SubCenters, SayWhatDoesNotFit) {
    const Var e(bf::full({2, 4}, 1)), w(bf::full({6, 4}, 1));
    const Tensor rows = bf::full({1, 4}, 1);
    EXPECT_THROW(bf::margin_softmax(e, w, numbers({0, 1}), {.centers = 4}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, numbers({0, 1}), {.centers = 0}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, numbers({0, 2}), {.centers = 3}), bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, numbers({0, 1}), {.memory = {rows, numbers({6}), 1}, .centers = 3}),
                 bf::Error);
    bf::margin_softmax(e, w, numbers({0, 1}), {.memory = {rows, numbers({5}), 1}, .centers = 3});
}

}  // namespace
}  // namespace class_heads_golden
