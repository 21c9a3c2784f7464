// XBM and VPL in a Trainer: off they change nothing, on they do what a loop by hand does, and a saved run continues.
#include <gtest/gtest.h>

#include <cstring>

#include "bf/optim/vpl.hpp"
#include "bf/optim/xbm.hpp"
#include "tiny_run.hpp"

namespace memory_run {
namespace {

using namespace tiny_run;
using bf::BroadFace;
using bf::StateDict;
using bf::StepReport;
using bf::Tensor;
using bf::TrainBatch;
using bf::Var;
using bf::Vpl;
using bf::Xbm;

const bf::XbmOptions pairs_on{.queue = 20, .weight = 0.5, .margin = 0.3, .start_step = 2};
const bf::VplOptions prototypes_on{.queue = 20, .lambda = 0.3, .age_limit = 2, .start_step = 2};

bool equal(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}
void expect_equal(const StateDict& a, const StateDict& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : a) {
        ASSERT_TRUE(b.count(name)) << name;
        EXPECT_TRUE(equal(tensor, b.at(name))) << name;
    }
}
StateDict copied(const StateDict& state) {
    StateDict all;
    for (const auto& [name, tensor] : state) all[name] = tensor.clone();
    return all;
}

/// A run with all three memories in its list, as the program has it.
struct Trained {
    explicit Trained(const bf::BroadFaceOptions& broad_options = {.queue = 0},
                     const bf::XbmOptions& xbm_options = {.queue = 0}, const bf::VplOptions& vpl_options = {})
        : broad(broad_options, dim), xbm(xbm_options, dim), vpl(vpl_options, dim) {}
    Parts p;
    BroadFace broad;
    Xbm xbm;
    Vpl vpl;
    bf::Trainer<BroadFace, Xbm, Vpl> trainer{*p.net, p.w, p.sgd, constant_lr, broad, xbm, vpl};
};

TEST(MemoryRun, UnusedMemoriesChangeNothing) {
    for (const std::int64_t queue : {0, 20}) {
        const bf::BroadFaceOptions options{.queue = queue, .start_step = first_use};
        Parts p;
        BroadFace broad(options, dim);
        bf::Trainer<BroadFace> alone(*p.net, p.w, p.sgd, constant_lr, broad);
        Trained run(options);
        for (const TrainBatch& batch : batches(6)) {
            const StepReport a = one_step(alone, batch), b = one_step(run.trainer, batch);
            EXPECT_EQ(a.loss, b.loss);
            EXPECT_EQ(a.classifier_loss, b.classifier_loss);
            EXPECT_EQ(b.extra_loss, 0);
        }
        expect_equal(alone.state(), run.trainer.state());  // the checkpoint, too, is the same
    }
}

TEST(MemoryRun, XbmEqualsTheLoopWrittenByHand) {
    Trained a({.queue = 0}, pairs_on);
    Parts b;
    Xbm xbm(pairs_on, dim);
    const auto data = batches(6);
    for (std::uint64_t step = 0; step < 6; ++step) {
        const TrainBatch& batch = data[step];
        const StepReport report = one_step(a.trainer, batch);
        const Var e = (*b.net)(Var(batch.images));
        const auto loss = bf::margin_softmax(e, b.w, batch.labels, {.margin = margin});
        const Var extra = xbm.loss(e, batch.labels, b.w.value(), step);
        b.sgd.zero_grad();
        bf::backward(step < 2 ? loss.loss : loss.loss + extra);
        xbm.push(e.value(), batch.labels, b.w.value(), step, batch.indices);
        b.sgd.step(constant_lr.schedule(step));
        EXPECT_EQ(report.loss, loss.loss.value().item());
        EXPECT_EQ(report.extra_loss, step < 2 ? 0 : extra.value().item());
        EXPECT_EQ(report.extra_loss > 0, step >= 2);
        EXPECT_TRUE(equal(a.p.w.value(), b.w.value())) << step;
        expect_equal(a.p.net->state(), b.net->state());
    }
    expect_equal(a.xbm.save_state(), xbm.save_state());
}

TEST(MemoryRun, VplEqualsTheLoopWrittenByHand) {
    Trained a({.queue = 0}, {.queue = 0}, prototypes_on);
    Parts b;
    Vpl vpl(prototypes_on, dim);
    const auto data = batches(6);
    for (std::uint64_t step = 0; step < 6; ++step) {
        const TrainBatch& batch = data[step];
        const StepReport report = one_step(a.trainer, batch);
        const Var e = (*b.net)(Var(batch.images));
        const auto loss = bf::margin_softmax(e, vpl.classifier(b.w, step), batch.labels, {.margin = margin});
        b.sgd.zero_grad();
        bf::backward(loss.loss);
        vpl.push(e.value(), batch.labels, b.w.value(), step, batch.indices);
        b.sgd.step(constant_lr.schedule(step));
        EXPECT_EQ(report.loss, loss.loss.value().item());
        EXPECT_TRUE(equal(a.p.w.value(), b.w.value())) << step;
        expect_equal(a.p.net->state(), b.net->state());
    }
    expect_equal(a.vpl.save_state(), vpl.save_state());
}

TEST(MemoryRun, EachPartsFromPlainTrainingAtItsStart) {
    Trained plain, xbm({.queue = 0}, pairs_on), vpl({.queue = 0}, {.queue = 0}, prototypes_on);
    const auto data = batches(5);
    for (std::size_t i = 0; i < 5; ++i) {
        const StepReport p = one_step(plain.trainer, data[i]), x = one_step(xbm.trainer, data[i]),
                         v = one_step(vpl.trainer, data[i]);
        EXPECT_EQ(x.loss == p.loss, i <= 2) << i;  // the encoder feels the pairs one step later
        EXPECT_EQ(v.loss == p.loss, i < 2) << i;   // the loss itself sees the prototypes
    }
}

TEST(MemoryRun, ASavedRunContinuesBitForBit) {
    const auto data = batches(8);
    for (const bool pairs : {true, false}) {
        const bf::XbmOptions xbm = pairs ? pairs_on : bf::XbmOptions{.queue = 0};
        const bf::VplOptions vpl = pairs ? bf::VplOptions{} : prototypes_on;
        Trained whole({.queue = 0}, xbm, vpl), first({.queue = 0}, xbm, vpl), second({.queue = 0}, xbm, vpl);
        for (std::size_t i = 0; i < 8; ++i) one_step(whole.trainer, data[i]);
        for (std::size_t i = 0; i < 4; ++i) one_step(first.trainer, data[i]);
        const StateDict saved = copied(first.trainer.state());
        EXPECT_TRUE(saved.count(pairs ? "xbm.queue.embeddings" : "vpl.queue.embeddings"));
        second.trainer.load_state(saved);
        for (std::size_t i = 4; i < 8; ++i) one_step(second.trainer, data[i]);
        expect_equal(whole.trainer.state(), second.trainer.state());
    }
}

TEST(MemoryRun, AnotherMemoryMayGoOnFromAPlainCheckpoint) {
    const auto data = batches(6);
    Trained plain, xbm({.queue = 0}, pairs_on), broad({.queue = 20});
    for (std::size_t i = 0; i < 3; ++i) one_step(plain.trainer, data[i]);
    xbm.trainer.load_state(copied(plain.trainer.state()));
    EXPECT_EQ(xbm.xbm.rows().size(), 0);
    EXPECT_GT(one_step(xbm.trainer, data[3]).extra_loss, 0);
    broad.trainer.load_state(copied(xbm.trainer.state()));
    EXPECT_EQ(broad.broad.size(), 0);
    one_step(broad.trainer, data[4]);
    EXPECT_EQ(broad.broad.size(), batch_size);
}

TEST(MemoryRun, MicroBatchesOfVplAddUpToOneBatch) {
    // without batch norm's batch statistics in the way: the gradients of W for fixed embeddings
    bf::Init init(3, bf::DType::f64);
    const Tensor x = init.normal({6, 8}, 1), w0 = init.normal({5, 8}, 1), old = init.normal({7, 8}, 1),
                 y = Tensor::from<std::int64_t>({0, 1, 2, 3, 4, 0}, {6}),
                 old_y = Tensor::from<std::int64_t>({0, 1, 2, 0, 1, 0, 1}, {7});
    std::vector<Tensor> gradients;
    std::vector<StateDict> states;
    for (const int parts : {1, 3}) {
        Vpl vpl({.queue = 9, .lambda = 0.3, .start_step = 0}, 8, bf::DType::f64);
        const Var w = Var::leaf(w0);
        vpl.push(old, old_y, w0, 0);
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
            bf::run_after_forward(vpl, s);
            bf::backward(bf::margin_softmax(e, s.classifier, s.labels, {.margin = margin, .batch_total = 6}).loss);
            forwards.push_back(s);
        }
        bf::StepState s{1, w, forwards};
        bf::run_before_step(vpl, s);
        gradients.push_back(w.grad());
        states.push_back(copied(vpl.save_state()));
    }
    for (std::int64_t i = 0; i < w0.numel(); ++i)
        ASSERT_NEAR(gradients[0].data<double>()[i], gradients[1].data<double>()[i], 1e-13);
    expect_equal(states[0], states[1]);
}

}  // namespace
}  // namespace memory_run
