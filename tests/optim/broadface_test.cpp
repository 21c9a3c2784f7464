#include "bf/optim/broadface.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "bf/autograd/gradcheck.hpp"
#include "bf/core/parallel.hpp"
#include "bf/nn/init.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/ops/reduce.hpp"
#include "golden_steps.hpp"

namespace {

using namespace broadface_golden;
using bf::BroadFace;
using bf::ClassifierMemory;
using bf::DType;
using bf::Margin;
using bf::Tensor;
using bf::Var;

void expect_same_bits(const Tensor& a, const Tensor& b) {
    ASSERT_EQ(a.shape(), b.shape());
    EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0);
}
Tensor labels(std::vector<std::int64_t> v) {
    return Tensor::from<std::int64_t>(v, {static_cast<std::int64_t>(v.size())});
}

TEST(Margins, GoldenLossAndGradients) { run_golden_margins(bf::cpu_device); }
TEST(Margins, GoldenBeyondTheGuard) { run_golden_beyond_the_guard(bf::cpu_device); }

TEST(Margins, ExactOnesFallAsTheAngleGrows) {
    for (const Margin m :
         {bf::arcface(64, 0.5), bf::cosface(), bf::combined_margin(64, 1.35, 0, 0), bf::combined_margin(64, 2, 0, 0.1),
          bf::combined_margin(64, 0.9, 0.4, 0.15), bf::sphereface(64, 4)})
        for (double theta = 0.01; theta < 3.13; theta += 0.01)
            EXPECT_GT(m(std::cos(theta)).phi, m(std::cos(theta + 0.005)).phi) << "at " << theta;
}

TEST(Margins, FiniteWhereTheEmbeddingIsParallelToItsRow) {
    for (const char* name : {"softmax", "arcface", "cosface", "combined", "sphereface"})
        for (const float sign : {1.0f, -1.0f}) {
            const Tensor w = Tensor::from<float>({0.6f, 0.8f, 1.0f, 0.0f}, {2, 2});
            const Var e = Var::leaf(Tensor::from<float>({sign * 0.3f, sign * 0.4f}, {1, 2})), v = Var::leaf(w);
            const auto loss = bf::margin_softmax(e, v, labels({0}), {.margin = head(name)});
            bf::backward(loss.loss);
            EXPECT_TRUE(std::isfinite(loss.loss.value().item())) << name;
            for (int i = 0; i < 2; ++i) EXPECT_TRUE(std::isfinite(e.grad().data<float>()[i])) << name;
            for (int i = 0; i < 4; ++i) EXPECT_TRUE(std::isfinite(v.grad().data<float>()[i])) << name;
        }
}

TEST(MarginSoftmax, GradcheckOfTheFusedOp) {
    bf::Init init(4, DType::f64);
    const Tensor y = labels({0, 3, 3, 8});
    for (const char* name : {"softmax", "arcface", "cosface", "combined", "sphereface"}) {
        const auto f = [&](const std::vector<Var>& v) {
            return bf::margin_softmax(v[0], v[1], y, {.margin = head(name)}).loss;
        };
        const auto result = bf::gradcheck(f, {init.normal({4, 5}, 1), init.normal({9, 5}, 0.3)}, {.tolerance = 1e-6});
        EXPECT_TRUE(result.ok) << name << ": " << result.message;
    }
}

TEST(MarginSoftmax, EqualsTheFormulaOverManyTiles) {
    // more classes than one tile and more rows than one tile, against ops that hold the logits
    bf::Init init(6, DType::f64);
    const std::int64_t b = 300, k = 1200, d = 7;
    Tensor y = Tensor::empty({b}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < b; ++i) y.data<std::int64_t>()[i] = i * 31 % k;
    const Var e = Var::leaf(init.normal({b, d}, 1)), w = Var::leaf(init.normal({k, d}, 1));
    const auto fused = bf::margin_softmax(e, w, y, {.margin = bf::normalized_softmax(16)});
    bf::backward(fused.loss);
    const Var e2 = Var::leaf(e.value()), w2 = Var::leaf(w.value());
    const Var plain =
        bf::mean(bf::softmax_cross_entropy(16.0 * bf::linear(bf::normalize_rows(e2), bf::normalize_rows(w2)), y));
    bf::backward(plain);
    EXPECT_NEAR(fused.loss.value().item(), plain.value().item(), 1e-11);
    for (std::int64_t i = 0; i < e.grad().numel(); ++i) ASSERT_NEAR(at(e.grad(), i), at(e2.grad(), i), 1e-13);
    for (std::int64_t i = 0; i < w.grad().numel(); ++i) ASSERT_NEAR(at(w.grad(), i), at(w2.grad(), i), 1e-13);
}

TEST(MarginSoftmax, ShardsOfClassesJoin) {
    bf::Init init(8, DType::f64);
    const Tensor x = init.normal({5, 6}, 1), w = init.normal({10, 6}, 1), y = labels({0, 4, 5, 9, 2});
    const auto statistics = [&](std::int64_t begin, std::int64_t end) {
        bf::ClassifierRows rows{
            .x = x, .inverse_norm = {}, .labels = y, .target_logit = {}, .slope = {}, .log_sum_exp = {}};
        bf::ClassifierWeights part{w.rows(begin, end), Tensor::empty({end - begin}, {.dtype = DType::f64}), begin, 16};
        bf::kernels(bf::cpu_device).inverse_norms(bf::context(bf::cpu_device), part.w, part.inverse_norm);
        return bf::classifier_statistics(rows, part);
    };
    const auto whole = statistics(0, 10),
               joined = bf::join_statistics(bf::join_statistics(statistics(0, 4), statistics(4, 5)), statistics(5, 10));
    for (std::int64_t i = 0; i < 5; ++i) {
        EXPECT_DOUBLE_EQ(at(whole.largest, i), at(joined.largest, i));
        EXPECT_NEAR(at(whole.sum, i), at(joined.sum, i), 1e-13);
        EXPECT_DOUBLE_EQ(at(whole.cosine, i), at(joined.cosine, i));
    }
}

TEST(MarginSoftmax, SaysWhatDoesNotFit) {
    const Var e(bf::full({2, 4}, 1)), w(bf::full({3, 4}, 1));
    EXPECT_THROW(bf::margin_softmax(e, Var(bf::full({3, 5}, 1)), labels({0, 1}), bf::MarginSoftmaxOptions{}),
                 bf::Error);
    EXPECT_THROW(bf::margin_softmax(e, w, labels({0}), bf::MarginSoftmaxOptions{}), bf::Error);
    try {
        bf::margin_softmax(e, w, labels({0, 3}), bf::MarginSoftmaxOptions{});
        FAIL();
    } catch (const bf::Error& error) {
        EXPECT_STREQ(error.what(), "margin_softmax: label out of range; got 3, want 0..2");
    }
}

TEST(BroadFace, GoldenStepsInF64) { run_golden_steps(DType::f64, bf::cpu_device); }
TEST(BroadFace, GoldenStepsInF32) { run_golden_steps(DType::f32, bf::cpu_device); }

TEST(BroadFace, QueueOfZeroIsPlainTrainingBitForBit) {
    bf::Init init(2);
    const Tensor x = init.normal({5, 8}, 1), w0 = init.normal({6, 8}, 1), y = labels({0, 1, 2, 3, 5});
    const Var e1 = Var::leaf(x), w1 = Var::leaf(w0), e2 = Var::leaf(x), w2 = Var::leaf(w0);
    BroadFace none({.queue = 0}, 8);
    none.push(x, y, w0, 0);
    bf::backward(bf::margin_softmax(e1, w1, y, {.memory = none.memory(w0, 1)}).loss);
    bf::backward(bf::margin_softmax(e2, w2, y, bf::MarginSoftmaxOptions{}).loss);
    expect_same_bits(e1.grad(), e2.grad());
    expect_same_bits(w1.grad(), w2.grad());
}

TEST(BroadFace, EncoderGradientComesFromTheBatchOnly) {
    bf::Init init(2);
    const Tensor x = init.normal({5, 8}, 1), w0 = init.normal({6, 8}, 1), y = labels({0, 1, 2, 3, 5});
    const ClassifierMemory memory{init.normal({7, 8}, 1), labels({0, 0, 1, 2, 3, 4, 5}), 7};
    const Var e1 = Var::leaf(x), w1 = Var::leaf(w0), e2 = Var::leaf(x), w2 = Var::leaf(w0);
    bf::backward(bf::margin_softmax(e1, w1, y, {.memory = memory}).loss);
    bf::backward(bf::margin_softmax(e2, w2, y, bf::MarginSoftmaxOptions{}).loss);
    expect_same_bits(e1.grad(), e2.grad());
    EXPECT_NE(std::memcmp(w1.grad().raw(), w2.grad().raw(), w1.grad().bytes()), 0);
}

TEST(BroadFace, MicroBatchesAddUpToOneBatch) {
    bf::Init init(3, DType::f64);
    const Tensor x = init.normal({6, 8}, 1), w0 = init.normal({5, 8}, 1), y = labels({0, 1, 2, 3, 4, 0}),
                 old = init.normal({7, 8}, 1), old_y = labels({0, 1, 2, 3, 4, 0, 1});
    const auto make = [&] {
        BroadFace broad({.queue = 9}, 8, DType::f64);
        broad.push(old, old_y, init.constant({5, 8}, 0.3), 0);
        return broad;
    };
    BroadFace whole = make(), cut = make();
    const Var w1 = Var::leaf(w0), w2 = Var::leaf(w0);
    const auto run = [&](BroadFace& broad, const Var& w, int parts) {
        std::vector<Tensor> gradients;
        double loss = 0, classifier_loss = 0;
        std::vector<bf::ForwardState> forwards;
        for (int m = 0; m < parts; ++m) {
            const Var e = Var::leaf(x.rows(m * 6 / parts, (m + 1) * 6 / parts).clone());
            bf::ForwardState s{.step = 1,
                               .micro_batch = m,
                               .embeddings = e.value(),
                               .labels = y.rows(m * 6 / parts, (m + 1) * 6 / parts),
                               .indices = {},
                               .weight = w,
                               .memory = {}};
            bf::run_after_forward(broad, s);
            const auto r = bf::margin_softmax(e, w, s.labels, {.batch_total = 6, .memory = s.memory});
            bf::backward(r.loss);
            loss += r.loss.value().item();
            classifier_loss += r.classifier_loss.item();
            forwards.push_back(s);
        }
        bf::StepState s{1, w, forwards};
        bf::run_before_step(broad, s);
        return std::pair{loss, classifier_loss};
    };
    const auto a = run(whole, w1, 1), b = run(cut, w2, 3);
    EXPECT_NEAR(a.first, b.first, 1e-12);
    EXPECT_NEAR(a.second, b.second, 1e-12);
    for (std::int64_t i = 0; i < w1.grad().numel(); ++i) ASSERT_NEAR(at(w1.grad(), i), at(w2.grad(), i), 1e-13);
    const auto sa = whole.save_state(), sb = cut.save_state();
    for (const auto& [name, tensor] : sa) expect_same_bits(tensor, sb.at(name));
}

TEST(BroadFace, AStepWithoutItsForwardPassesIsRefused) {
    const Var w = Var::leaf(bf::full({3, 4}, 1));
    BroadFace broad({.queue = 4}, 4);
    bf::ForwardState forward{.step = 0,
                             .micro_batch = 0,
                             .embeddings = bf::full({2, 4}, 1),
                             .labels = labels({0, 1}),
                             .indices = {},
                             .weight = w,
                             .memory = {}};
    broad.after_forward(forward);
    bf::StepState bare{0, w, {}}, whole{0, w, {&forward, 1}};
    EXPECT_THROW(broad.before_step(bare), bf::Error);
    broad.before_step(whole);
    EXPECT_EQ(broad.size(), 2);
}

TEST(BroadFace, SavedAndLoadedContinuesBitForBit) {
    bf::Init init(9);
    const Tensor w = init.normal({5, 4}, 1), y = labels({0, 3, 4});
    BroadFace a({.queue = 7}, 4);
    for (std::uint64_t s = 0; s < 4; ++s) a.push(init.normal({3, 4}, 1), y, init.normal({5, 4}, 1), s);
    bf::StateDict saved;
    for (const auto& [name, tensor] : a.save_state()) saved[name] = tensor.clone();
    BroadFace b({.queue = 7}, 4);
    b.load_state(saved);
    for (std::uint64_t s = 4; s < 7; ++s) {
        const ClassifierMemory ma = a.memory(w, s), mb = b.memory(w, s);
        expect_same_bits(ma.embeddings, mb.embeddings);
        expect_same_bits(ma.labels, mb.labels);
        const Tensor e = init.normal({3, 4}, 1), then = init.normal({5, 4}, 1);
        a.push(e, y, then, s);
        b.push(e, y, then, s);
    }
    BroadFace small({.queue = 3}, 4), large({.queue = 20}, 4);
    small.load_state(saved);
    large.load_state(saved);
    BroadFace original({.queue = 7}, 4);
    original.load_state(saved);
    const bf::QueueRows all = original.queue().newest(7);
    EXPECT_EQ(small.size(), 3);
    expect_same_bits(small.queue().newest(3).embeddings, all.embeddings.rows(4, 7));
    EXPECT_EQ(large.size(), 7);
    expect_same_bits(large.queue().newest(7).embeddings, all.embeddings);
    expect_same_bits(large.queue().newest(7).weights, all.weights);
    BroadFace other({.queue = 7}, 5);
    EXPECT_THROW(other.load_state(saved), bf::Error);
}

TEST(BroadFace, CompensationStartsFromTheStoredPairEachTime) {
    bf::Init init(1);
    const Tensor then = init.normal({3, 4}, 1), now = init.normal({3, 4}, 1), y = labels({0, 2});
    BroadFace broad({.queue = 4}, 4), variant({.queue = 4, .overwrite = true}, 4);
    for (BroadFace* b : {&broad, &variant}) b->push(bf::full({2, 4}, 0.5), y, then, 0);
    const Tensor before = broad.save_state().at("queue.embeddings").clone();
    broad.memory(now, 1);
    variant.memory(now, 1);
    expect_same_bits(broad.save_state().at("queue.embeddings"), before);
    EXPECT_NE(std::memcmp(variant.save_state().at("queue.embeddings").raw(), before.raw(), before.bytes()), 0);
    // where W did not move, e* is e: for the variant after its first use
    const Tensor moved = variant.save_state().at("queue.embeddings").rows(0, 2).clone();
    expect_same_bits(variant.memory(now, 2).embeddings, moved);
}

TEST(BroadFace, DirectionOnlyIgnoresTheLengthOfW) {
    const Tensor then = Tensor::from<double>({1, 0, 0, 1}, {2, 2}), grown = Tensor::from<double>({3, 0, 0, 1}, {2, 2});
    BroadFace raw({.queue = 1}, 2, DType::f64), direction({.queue = 1, .direction_only = true}, 2, DType::f64);
    for (BroadFace* b : {&raw, &direction}) b->push(Tensor::from<double>({0, 2}, {1, 2}), labels({0}), then, 0);
    EXPECT_DOUBLE_EQ(at(raw.memory(grown, 1).embeddings, 0), 4);  // 2 / 1 * (3 - 1)
    EXPECT_NEAR(at(direction.memory(grown, 1).embeddings, 0), 0, 1e-15);
}

TEST(BroadFace, SaysWhatDoesNotFitAndLeavesTheQueueWhole) {
    const Tensor w = bf::full({3, 4}, 1), e = bf::full({2, 4}, 1);
    BroadFace broad({.queue = 4}, 4);
    broad.push(e, labels({0, 1}), w, 0);
    EXPECT_THROW(broad.push(e, labels({0, 3}), w, 1), bf::Error);
    EXPECT_THROW(broad.push(e, labels({0, -1}), w, 1), bf::Error);
    EXPECT_THROW(broad.push(e, labels({0}), w, 1), bf::Error);
    EXPECT_THROW(broad.push(e, labels({0, 1}), bf::full({3, 5}, 1), 1), bf::Error);
    EXPECT_THROW(broad.push(e, labels({0, 1}), bf::full({3, 4}, 1, DType::f64), 1), bf::Error);
    EXPECT_EQ(broad.size(), 2);
    EXPECT_THROW(broad.memory(bf::full({1, 4}, 1), 1), bf::Error);  // label 1 has no row
    auto state = broad.save_state();
    state["queue.labels"] = labels({0});
    EXPECT_THROW(broad.load_state(state), bf::Error);
    state.erase("queue.labels");
    EXPECT_THROW(broad.load_state(state), bf::Error);
    EXPECT_EQ(broad.memory(w, 1).total, 2);
}

TEST(BroadFace, MemoriesOfTwoClassifiersStandSideBySide) {
    bf::Init init(3);
    const Tensor then = init.normal({3, 4}, 1), a = init.normal({3, 4}, 1), b = init.normal({3, 4}, 1);
    BroadFace broad({.queue = 4}, 4);
    broad.push(init.normal({2, 4}, 1), labels({0, 2}), then, 0);
    const ClassifierMemory first = broad.memory(a, 1);
    const Tensor copy = first.embeddings.clone();
    broad.memory(b, 1);
    expect_same_bits(first.embeddings, copy);
}

TEST(BroadFace, ABatchLargerThanTheQueueLeavesItsLastRows) {
    bf::Init init(3);
    const Tensor w = init.normal({9, 4}, 1), e = init.normal({8, 4}, 1), y = labels({0, 1, 2, 3, 4, 5, 6, 7});
    BroadFace once({.queue = 3, .compensate = false}, 4), row_by_row({.queue = 3, .compensate = false}, 4);
    once.push(init.normal({1, 4}, 1), labels({8}), w, 0);
    row_by_row.push(init.normal({1, 4}, 1), labels({8}), w, 0);
    once.push(e, y, w, 1);
    for (std::int64_t i = 0; i < 8; ++i) row_by_row.push(e.rows(i, i + 1), y.rows(i, i + 1), w, 1);
    const auto a = once.save_state(), b = row_by_row.save_state();
    for (const auto& [name, tensor] : a) expect_same_bits(tensor, b.at(name));
    expect_same_bits(once.memory(w, 2).embeddings, e.rows(5, 8));
}

TEST(BroadFace, RowsOfALaterStepHaveAgeZero) {
    const Tensor w = bf::full({2, 2}, 1);
    BroadFace broad({.queue = 4, .age_limit = 2}, 2);
    broad.push(bf::full({2, 2}, 1), labels({0, 1}), w, 5000);
    EXPECT_EQ(broad.telemetry(w, 0).mean_age, 0);
    EXPECT_EQ(broad.memory(w, 0).total, 2);
}

TEST(BroadFace, StartRampAndAgeLimitWhatIsUsed) {
    const Tensor w = bf::full({2, 2}, 1), e = bf::full({2, 2}, 1), y = labels({0, 1});
    BroadFace start({.queue = 8, .start_step = 3}, 2), ramp({.queue = 8, .ramp_steps = 3}, 2),
        age({.queue = 8, .age_limit = 2}, 2);
    for (std::uint64_t s = 0; s < 6; ++s)
        for (BroadFace* b : {&start, &ramp, &age}) b->push(e, y, w, s);
    EXPECT_EQ(start.memory(w, 2).total, 0);
    EXPECT_EQ(start.memory(w, 3).total, 8);
    EXPECT_EQ(ramp.memory(w, 0).total, 2);
    EXPECT_EQ(ramp.memory(w, 1).total, 4);
    EXPECT_EQ(ramp.memory(w, 3).total, 8);
    EXPECT_EQ(age.memory(w, 6).total, 4);  // of steps 4 and 5
    EXPECT_EQ(age.memory(w, 9).total, 0);
}

TEST(BroadFace, Telemetry) {
    const Tensor w = bf::full({4, 2}, 1);
    BroadFace broad({.queue = 6}, 2);
    const Tensor places = labels({10, 11, 12});
    for (std::uint64_t s = 0; s < 3; ++s) broad.push(bf::full({3, 2}, 2), labels({0, 1, 1}), w, s, places);
    const bf::QueueTelemetry t = broad.telemetry(w, 3);
    EXPECT_EQ(t.rows, 6);
    EXPECT_EQ(t.distinct, 2);
    EXPECT_DOUBLE_EQ(t.mean_age, 1.5);
    EXPECT_NEAR(t.norm_ratio, 1, 1e-6);
    std::int64_t counted = 0;
    for (const std::int64_t n : t.age_histogram) counted += n;
    EXPECT_EQ(counted, 6);
    std::vector<std::int64_t> slots;
    EXPECT_EQ(broad.sample_indices(2, slots).size(), 2u);
    const bf::QueueDrift drift = broad.drift(w, bf::full({2, 2}, 5), slots, 3);
    EXPECT_EQ(drift.all.rows, 2);
    EXPECT_NEAR(drift.all.cos_plain, 1, 1e-6);
    EXPECT_NEAR(drift.all.cos_compensated, 1, 1e-6);
    EXPECT_NEAR(drift.all.error_plain, 0.6, 1e-6);  // 2 against 5
    EXPECT_NEAR(drift.all.error_compensated, 0.6, 1e-6);
}

// Against the formulae written down row by row: e* by hand, a loop over all rows for each range of ages.
TEST(BroadFace, DriftByAgeEqualsTheNaiveComputation) {
    constexpr std::int64_t k = 7, d = 5, each = 3, steps = 29;
    bf::Init init(17, DType::f64);
    BroadFace broad({.queue = 60}, d, DType::f64);
    std::vector<Tensor> stored, then;
    std::vector<std::int64_t> who, pushed;
    for (std::int64_t s = 0; s < steps; ++s) {
        const Tensor e = init.normal({each, d}, 1), w = init.normal({k, d}, 0.2 + 0.1 * static_cast<double>(s % 3));
        const Tensor y = labels({s % k, (s + 2) % k, (s * s) % k});
        broad.push(e, y, w, static_cast<std::uint64_t>(s), labels({3 * s, 3 * s + 1, 3 * s + 2}));
        for (std::int64_t i = 0; i < each; ++i) {
            stored.push_back(e.rows(i, i + 1).clone());
            who.push_back(y.data<std::int64_t>()[i]);
            then.push_back(w.rows(who.back(), who.back() + 1).clone());
            pushed.push_back(s);
        }
    }
    const Tensor now_w = init.normal({k, d}, 0.3);
    std::vector<std::int64_t> numbers;  // 20 of the 60 rows that are left, ages 1 to 20, with a gap in the middle
    for (std::int64_t n = steps * each - 60; n < steps * each; n += 2)
        if (n < 48 || n >= 68) numbers.push_back(n);
    const auto n = static_cast<std::int64_t>(numbers.size());
    const Tensor now = init.normal({n, d}, 1);
    for (const std::int64_t bins : {1, 4, 10, 500}) {
        const bf::QueueDrift got = broad.drift(now_w, now, numbers, steps, bins);
        EXPECT_EQ(got.by_age.size(), static_cast<std::size_t>(std::min<std::int64_t>(bins, 20)));
        EXPECT_EQ(got.by_age.front().youngest, 1);
        EXPECT_EQ(got.by_age.back().end, 21);
        std::int64_t end = 1, rows = 0;
        for (const bf::DriftBin& bin : got.by_age) {
            EXPECT_EQ(bin.youngest, end);
            end = bin.end;
            double count = 0, age = 0, error_plain = 0, error_moved = 0, cos_plain = 0, cos_moved = 0;
            for (std::int64_t i = 0; i < n; ++i) {
                const auto at_row = static_cast<std::size_t>(numbers[static_cast<std::size_t>(i)]);
                const std::int64_t old = steps - pushed[at_row];
                if (old < bin.youngest || old >= bin.end) continue;
                std::vector<double> e(d), moved(d), fresh(d), off_plain(d), off_moved(d);
                double norm_e = 0, norm_then = 0;
                for (std::int64_t c = 0; c < d; ++c) {
                    norm_e += std::pow(at(stored[at_row], c), 2);
                    norm_then += std::pow(at(then[at_row], c), 2);
                }
                const auto norm = [](const std::vector<double>& v) {
                    double sum = 0;
                    for (const double x : v) sum += x * x;
                    return std::sqrt(sum);
                };
                double dot_plain = 0, dot_moved = 0;
                for (std::size_t c = 0; c < d; ++c) {
                    const auto column = static_cast<std::int64_t>(c);
                    e[c] = at(stored[at_row], column);
                    moved[c] = e[c] + std::sqrt(norm_e / norm_then) *
                                          (at(now_w, who[at_row] * d + column) - at(then[at_row], column));
                    fresh[c] = at(now, i * d + column);
                    off_plain[c] = e[c] - fresh[c];
                    off_moved[c] = moved[c] - fresh[c];
                    dot_plain += e[c] * fresh[c];
                    dot_moved += moved[c] * fresh[c];
                }
                count += 1;
                age += static_cast<double>(old);
                error_plain += norm(off_plain) / norm(fresh);
                error_moved += norm(off_moved) / norm(fresh);
                cos_plain += dot_plain / norm(e) / norm(fresh);
                cos_moved += dot_moved / norm(moved) / norm(fresh);
            }
            EXPECT_EQ(static_cast<double>(bin.means.rows), count);
            rows += bin.means.rows;
            if (count == 0) {
                EXPECT_TRUE(std::isnan(bin.age) && std::isnan(bin.means.error_plain));
                continue;
            }
            EXPECT_NEAR(bin.age, age / count, 1e-12);
            EXPECT_NEAR(bin.means.error_plain, error_plain / count, 1e-12);
            EXPECT_NEAR(bin.means.error_compensated, error_moved / count, 1e-12);
            EXPECT_NEAR(bin.means.cos_plain, cos_plain / count, 1e-12);
            EXPECT_NEAR(bin.means.cos_compensated, cos_moved / count, 1e-12);
        }
        EXPECT_EQ(rows, n);
        EXPECT_EQ(got.all.rows, n);
    }
}

TEST(BroadFace, DistinctIdentitiesOfBatchAndUsedRows) {
    const Tensor w = bf::full({9, 2}, 1);
    BroadFace broad({.queue = 6, .start_step = 2}, 2);
    for (std::uint64_t s = 0; s < 3; ++s)
        broad.push(bf::full({3, 2}, 1), labels({0, 1, 2 + static_cast<int>(s)}), w, s);
    const std::vector<std::int64_t> batch{7, 7, 3};
    EXPECT_EQ(broad.distinct(batch, 1), 2);  // the queue is not used yet
    EXPECT_EQ(broad.distinct(batch, 3), 5);  // 0, 1, 3, 4 of the two newest pushes, and 7
    EXPECT_EQ(BroadFace({.queue = 0}, 2).distinct(batch, 3), 2);
}

TEST(BroadFace, SameBitsOnAnyNumberOfThreads) {
    bf::Init init(12);
    const Tensor x = init.normal({70, 16}, 1), w0 = init.normal({1500, 16}, 1), old = init.normal({600, 16}, 1);
    Tensor y = Tensor::zeros({70}, {.dtype = DType::i64}), old_y = Tensor::zeros({600}, {.dtype = DType::i64});
    for (std::int64_t i = 0; i < 600; ++i) old_y.data<std::int64_t>()[i] = i * 2;
    const auto run = [&](int threads) {
        bf::cpu_pool().resize(threads);
        const Var e = Var::leaf(x), w = Var::leaf(w0);
        bf::backward(bf::margin_softmax(e, w, y, {.memory = {old, old_y, 600}}).loss);
        return std::pair{e.grad(), w.grad()};
    };
    const int threads = bf::cpu_pool().threads();
    const auto one = run(1), three = run(3);
    bf::cpu_pool().resize(threads);
    expect_same_bits(one.first, three.first);
    expect_same_bits(one.second, three.second);
}

}  // namespace
