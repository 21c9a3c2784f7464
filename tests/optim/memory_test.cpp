// XBM and VPL: golden vectors, what they leave alone, states.
#include <gtest/gtest.h>

#include "bf/nn/init.hpp"
#include "bf/ops/reduce.hpp"
#include "memory_steps.hpp"

namespace {

using bf::DType;
using bf::Vpl;
using bf::Xbm;

bf::Tensor classes(const std::vector<std::int64_t>& v) {
    return bf::Tensor::from<std::int64_t>(v, {static_cast<std::int64_t>(v.size())});
}
bool equal_bits(const bf::Tensor& a, const bf::Tensor& b) {
    return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}
double value(const bf::Var& v) { return v.value().defined() ? v.value().item() : 0; }
bf::StateDict copied(const bf::StateDict& state) {
    bf::StateDict all;
    for (const auto& [name, tensor] : state) all[name] = tensor.clone();
    return all;
}

TEST(Xbm, GoldenStepsInF64) { memory_golden::run_golden_xbm(DType::f64, bf::cpu_device); }
TEST(Xbm, GoldenStepsInF32) { memory_golden::run_golden_xbm(DType::f32, bf::cpu_device); }
TEST(Vpl, GoldenStepsInF64) { memory_golden::run_golden_vpl(DType::f64, bf::cpu_device); }
TEST(Vpl, GoldenStepsInF32) { memory_golden::run_golden_vpl(DType::f32, bf::cpu_device); }

TEST(Xbm, BlocksOfTheMemoryAddUp) {
    bf::Init init(4, DType::f64);
    const bf::Tensor x = init.normal({6, 5}, 1), past = init.normal({11, 5}, 1);
    const bf::Tensor y = classes({0, 1, 2, 0, 1, 2}), past_y = classes({0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2});
    for (const std::int64_t self : {-1, 0, 3}) {
        const bf::Var whole = bf::Var::leaf(x), cut = bf::Var::leaf(x);
        const bf::Var a = bf::contrastive_pairs(whole, y, {past, past_y, self}),
                      b = bf::contrastive_pairs(cut, y, {past, past_y, self}, {.block = 2});
        bf::backward(a);
        bf::backward(b);
        EXPECT_NEAR(value(a), value(b), 1e-14);
        for (std::int64_t i = 0; i < x.numel(); ++i)
            ASSERT_NEAR(whole.grad().data<double>()[i], cut.grad().data<double>()[i], 1e-14);
    }
}

TEST(Xbm, ARowIsNotPairedWithItself) {
    const bf::Tensor x = bf::Tensor::from<double>({1, 0, 1, 0, 0, 2}, {3, 2});
    // rows 0 and 1 are one class and parallel; row 2 is alone and at a right angle to both
    Xbm xbm({.queue = 4, .start_step = 0}, 2, DType::f64);
    const bf::Tensor w = bf::full({2, 2}, 1, DType::f64);
    EXPECT_NEAR(value(xbm.loss(bf::Var(x), classes({0, 0, 1}), w, 0)), 0, 1e-15);
    EXPECT_NEAR(value(xbm.loss(bf::Var(x), classes({0, 1, 1}), w, 0)), (1 + 1 + 1 + 1) / 3.0, 1e-15);
    // a row of zeros has cosine 0 with itself: a pair with itself would cost 1
    EXPECT_EQ(value(xbm.loss(bf::Var(bf::full({1, 2}, 0, DType::f64)), classes({0}), w, 0)), 0);
}

TEST(Xbm, MicroBatchesMeetTheQueueAndThemselves) {
    bf::Init init(6, DType::f64);
    const bf::Tensor x = init.normal({4, 5}, 1), y = classes({0, 1, 0, 1}), w = init.normal({2, 5}, 1);
    Xbm xbm({.queue = 8, .start_step = 0}, 5, DType::f64);
    xbm.push(init.normal({8, 5}, 1), classes({0, 1, 0, 1, 0, 1, 0, 1}), w, 0);
    const auto part = [&](std::int64_t begin, std::int64_t end, std::int64_t total) {
        return value(xbm.loss(bf::Var(x.rows(begin, end).clone()), y.rows(begin, end), w, 1, total));
    };
    const bf::ClassifierMemory past{xbm.rows().queue().newest(8).embeddings, xbm.rows().queue().newest(8).labels, 8};
    const auto with_queue = [&](std::int64_t begin, std::int64_t end) {
        return value(bf::contrastive_pairs(bf::Var(x.rows(begin, end).clone()), y.rows(begin, end),
                                           {past.embeddings, past.labels}, {.batch_total = 4}));
    };
    // the classes of each half are {0, 1}: within a half there are pairs of two classes alone
    const auto own = [&](std::int64_t begin, std::int64_t end) {
        const bf::Tensor half = x.rows(begin, end).clone();
        return value(bf::contrastive_pairs(bf::Var(half), y.rows(begin, end), {half, y.rows(begin, end), 0},
                                           {.batch_total = 4}));
    };
    EXPECT_NEAR(part(0, 2, 4) + part(2, 4, 4), with_queue(0, 4) + own(0, 2) + own(2, 4), 1e-14);
}

TEST(Memories, OffTheyAddNothingAndSaveNothing) {
    const bf::Var w = bf::Var::leaf(bf::full({3, 4}, 1)), e = bf::Var::leaf(bf::full({2, 4}, 1));
    Xbm xbm({.queue = 0, .start_step = 0}, 4);
    Vpl vpl({.queue = 0, .start_step = 0}, 4);
    bf::ForwardState forward{.step = 9,
                             .micro_batch = 0,
                             .embeddings = e.value(),
                             .labels = classes({0, 1}),
                             .indices = {},
                             .weight = w,
                             .memory = {}};
    bf::run_after_forward(xbm, forward);
    bf::run_after_forward(vpl, forward);
    EXPECT_FALSE(forward.extra_loss.value().defined());
    EXPECT_FALSE(forward.classifier.value().defined());
    bf::StepState step{9, w, {&forward, 1}};
    bf::run_before_step(xbm, step);
    bf::run_before_step(vpl, step);
    EXPECT_TRUE(xbm.save_state().empty() && vpl.save_state().empty());
    EXPECT_EQ(xbm.replay_key(9), 1u);
    EXPECT_EQ(vpl.replay_key(9), 1u);
}

TEST(Memories, AStepWithoutItsForwardPassesIsRefused) {
    const bf::Var w = bf::Var::leaf(bf::full({3, 4}, 1)), e = bf::Var::leaf(bf::full({2, 4}, 1));
    Xbm xbm({.queue = 4, .start_step = 0}, 4);
    Vpl vpl({.queue = 4, .start_step = 0}, 4);
    bf::ForwardState forward{.step = 0,
                             .micro_batch = 0,
                             .embeddings = e.value(),
                             .labels = classes({0, 1}),
                             .indices = {},
                             .weight = w,
                             .memory = {}};
    EXPECT_THROW(xbm.after_forward(forward), bf::Error);  // no graph to pair
    forward.encoded = e;
    xbm.after_forward(forward);
    vpl.after_forward(forward);
    bf::StepState bare{0, w, {}}, whole{0, w, {&forward, 1}};
    EXPECT_THROW(xbm.before_step(bare), bf::Error);
    EXPECT_THROW(vpl.before_step(bare), bf::Error);
    xbm.before_step(whole);
    vpl.before_step(whole);
    EXPECT_EQ(xbm.rows().size(), 2);
    EXPECT_EQ(vpl.rows().size(), 2);
}

TEST(Memories, ReplayKeysSayWhenAStepsWorkIsTheSame) {
    const bf::Tensor w = bf::full({3, 4}, 1);
    Xbm xbm({.queue = 4, .start_step = 2}, 4);
    Vpl vpl({.queue = 4, .start_step = 2}, 4);
    EXPECT_EQ(xbm.replay_key(0), 3u);
    EXPECT_EQ(vpl.replay_key(0), 3u);
    xbm.push(bf::full({2, 4}, 1), classes({0, 1}), w, 0);
    EXPECT_EQ(xbm.replay_key(2), 0u);  // the queue fills
    xbm.push(bf::full({2, 4}, 1), classes({0, 1}), w, 1);
    EXPECT_EQ(xbm.replay_key(2), 2u);  // and is used as a whole
    EXPECT_EQ(vpl.replay_key(2), 0u);
}

TEST(Memories, SavedAndLoadedContinueBitForBit) {
    bf::Init init(9);
    const bf::Tensor w = init.normal({5, 4}, 1), y = classes({0, 3, 4});
    Xbm xbm({.queue = 7, .start_step = 0}, 4), xbm2({.queue = 7, .start_step = 0}, 4);
    Vpl vpl({.queue = 7, .age_limit = 2, .start_step = 0}, 4), vpl2({.queue = 7, .age_limit = 2, .start_step = 0}, 4);
    const auto fill = [&](std::uint64_t from, std::uint64_t to, bool both) {
        for (std::uint64_t s = from; s < to; ++s) {
            const bf::Tensor e = init.normal({3, 4}, 1);
            xbm.push(e, y, w, s);
            vpl.push(e, y, w, s);
            if (both) xbm2.push(e, y, w, s), vpl2.push(e, y, w, s);
        }
    };
    fill(0, 4, false);
    bf::StateDict saved = copied(xbm.save_state());
    saved.merge(copied(vpl.save_state()));
    for (const auto& [name, tensor] : saved)
        EXPECT_TRUE(name.rfind("xbm.queue.", 0) == 0 || name.rfind("vpl.queue.", 0) == 0);
    xbm2.load_state(saved);
    vpl2.load_state(saved);
    fill(4, 6, true);
    const bf::Var e(init.normal({3, 4}, 1)), leaf = bf::Var::leaf(w);
    EXPECT_EQ(value(xbm.loss(e, y, w, 6)), value(xbm2.loss(e, y, w, 6)));
    EXPECT_TRUE(equal_bits(vpl.classifier(leaf, 6).value(), vpl2.classifier(leaf, 6).value()));
    EXPECT_FALSE(equal_bits(vpl.classifier(leaf, 6).value(), w));
    // a checkpoint without the stage leaves the queue empty; a damaged one is an error
    Xbm fresh({.queue = 7}, 4);
    fresh.load_state({});
    EXPECT_EQ(fresh.rows().size(), 0);
    saved.erase("xbm.queue.labels");
    EXPECT_THROW(fresh.load_state(saved), bf::Error);
}

TEST(Vpl, RowsThatAreTooOldOrOfNoClassSeenLeaveWAsItIs) {
    bf::Init init(3, DType::f64);
    const bf::Tensor w0 = init.normal({4, 3}, 1), x = init.normal({3, 3}, 1);
    const bf::Var w = bf::Var::leaf(w0);
    Vpl vpl({.queue = 6, .lambda = 0.25, .age_limit = 2, .start_step = 3}, 3, DType::f64);
    vpl.push(x, classes({1, 2, 1}), w0, 2);
    EXPECT_TRUE(vpl.classifier(w, 2).value().shares_storage(w0));  // before its start
    const bf::Tensor mixed = vpl.classifier(w, 4).value();
    for (const std::int64_t k : {0, 3})
        EXPECT_TRUE(equal_bits(mixed.rows(k, k + 1).clone(), w0.rows(k, k + 1).clone()));
    const auto unit = [](const bf::Tensor& t, std::int64_t row) {
        std::vector<double> v(3);
        double squares = 0;
        for (std::int64_t d = 0; d < 3; ++d) squares += t.data<double>()[row * 3 + d] * t.data<double>()[row * 3 + d];
        for (std::int64_t d = 0; d < 3; ++d)
            v[static_cast<std::size_t>(d)] = t.data<double>()[row * 3 + d] / std::sqrt(squares);
        return v;
    };
    for (const auto& [k, row] : {std::pair<std::int64_t, std::int64_t>{1, 2}, {2, 1}})  // the last row of the class
        for (std::int64_t d = 0; d < 3; ++d) {
            const auto i = static_cast<std::size_t>(d);
            EXPECT_NEAR(mixed.data<double>()[k * 3 + d], 0.75 * unit(w0, k)[i] + 0.25 * unit(x, row)[i], 1e-15);
        }
    EXPECT_TRUE(vpl.classifier(w, 5).value().shares_storage(w0));  // three steps old
}

TEST(Vpl, ABatchLargerThanTheQueueCountsByItsLastRows) {
    bf::Init init(5, DType::f64);
    const bf::Tensor w = init.normal({9, 3}, 1), x = init.normal({8, 3}, 1);
    Vpl small({.queue = 3, .start_step = 0}, 3, DType::f64), large({.queue = 20, .start_step = 0}, 3, DType::f64);
    for (Vpl* vpl : {&small, &large}) vpl->push(x, classes({0, 1, 2, 3, 4, 5, 6, 7}), w, 0);
    const bf::Tensor a = small.classifier(bf::Var(w), 1).value(), b = large.classifier(bf::Var(w), 1).value();
    for (std::int64_t k = 0; k < 9; ++k)
        EXPECT_TRUE(equal_bits(a.rows(k, k + 1).clone(), (k < 5 ? w : b).rows(k, k + 1).clone())) << k;
}

TEST(Memories, SayWhatDoesNotFit) {
    const bf::Tensor e = bf::full({2, 4}, 1), w = bf::full({3, 4}, 1);
    const bf::Var x(e);
    EXPECT_THROW(bf::contrastive_pairs(x, classes({0}), {e, classes({0, 1})}), bf::Error);
    EXPECT_THROW(bf::contrastive_pairs(x, classes({0, 1}), {bf::full({2, 5}, 1), classes({0, 1})}), bf::Error);
    EXPECT_THROW(bf::contrastive_pairs(x, classes({0, 1}), {e, classes({0, 1}), 1}), bf::Error);
    EXPECT_THROW(bf::contrastive_pairs(x, classes({0, 1}), {e, classes({0, 1})}, {.batch_total = 1}), bf::Error);
    EXPECT_THROW(bf::mix_prototypes(bf::Var(w), {e, classes({0, 1})}), bf::Error);
    EXPECT_THROW(bf::mix_prototypes(bf::Var(w), {e, classes({0, 1, 0})}, 1.0), bf::Error);
    EXPECT_THROW(Xbm({.margin = 2}, 4), bf::Error);
    EXPECT_THROW(Vpl({.lambda = 1}, 4), bf::Error);
    Vpl vpl({.queue = 4, .start_step = 0}, 4);
    vpl.push(e, classes({0, 1}), w, 0);
    EXPECT_THROW(vpl.classifier(bf::Var(bf::full({9, 4}, 1)), 1), bf::Error);
}

}  // namespace
