// Heads that are more than a margin, in whole training steps with BroadFace.
#include "bf/ops/margin_head.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "heads.hpp"

namespace {

using namespace tiny_run;
using bf::BroadFace;
using bf::StateDict;
using bf::StepReport;
using bf::TrainBatch;

StateDict copied(const StateDict& state) {
    StateDict all;
    for (const auto& [name, tensor] : state) all[name] = tensor.clone();
    return all;
}
void expect_equal(const StateDict& a, const StateDict& b, const std::string& what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    for (const auto& [name, tensor] : a) {
        ASSERT_TRUE(b.count(name)) << what << ": " << name;
        EXPECT_EQ(std::memcmp(tensor.raw(), b.at(name).raw(), tensor.bytes()), 0) << what << ": " << name;
    }
}

TEST(TrainerHeads, BroadFaceAndEachHeadTrain) {
    const auto data = batches(40);
    for (const Head& h : heads()) {
        HeadRun run(h);
        double first = 0, last = 0;
        for (std::size_t i = 0; i < data.size(); ++i) {
            const StepReport r = one_step(run.trainer, data[i]);
            ASSERT_TRUE(std::isfinite(r.gradient_norm)) << h.name;
            if (i < 8) first += r.loss;
            if (i + 8 >= data.size()) last += r.loss;
        }
        EXPECT_LT(last, 0.8 * first) << h.name;
        EXPECT_EQ(run.broad.size(), 20) << h.name;
    }
}

TEST(TrainerHeads, SavedInTheMiddleContinuesBitForBit) {
    const auto data = batches(9), other = batches(3, 77);
    for (const Head& h : heads()) {
        HeadRun whole(h), resumed(h);
        for (std::size_t i = 0; i < 4; ++i) one_step(whole.trainer, data[i]);
        const StateDict saved = copied(whole.trainer.state());
        EXPECT_EQ(saved.count("head.norms"), h.name == "adaface" ? 1u : 0u) << h.name;
        EXPECT_EQ(saved.count("head.calls"), h.name.rfind("elastic", 0) == 0 ? 1u : 0u) << h.name;
        EXPECT_EQ(saved.count("head.t"), h.name == "curricularface" ? 1u : 0u) << h.name;
        for (const TrainBatch& batch : other) one_step(resumed.trainer, batch);  // everything in it must be replaced
        resumed.trainer.load_state(saved);
        expect_equal(resumed.trainer.state(), saved, h.name);
        for (std::size_t i = 4; i < 9; ++i) {
            const StepReport a = one_step(whole.trainer, data[i]), b = one_step(resumed.trainer, data[i]);
            EXPECT_EQ(a.loss, b.loss) << h.name;
            EXPECT_EQ(a.classifier_loss, b.classifier_loss) << h.name;
        }
        expect_equal(whole.trainer.state(), resumed.trainer.state(), h.name);
    }
}

TEST(TrainerHeads, CurricularFaceFollowsTheTargetCosinesOfTheBatch) {
    const auto data = batches(30);
    for (const Head& h : heads()) {
        if (h.name != "curricularface") continue;
        HeadRun run(h);
        double before = 0;
        for (const TrainBatch& batch : data) {
            one_step(run.trainer, batch);
            const double t = run.head.curricular_t().item();
            EXPECT_LE(std::abs(t - before), 0.01 * (1 + std::abs(before)));  // t <- 0.01 mean + 0.99 t
            before = t;
        }
        EXPECT_GT(before, 0.02);  // rows come to lie near their identity
    }
}

// A row of the queue belongs to the center that won, and an identity counts once.
TEST(TrainerHeads, TheQueueKeepsRowsOfCenters) {
    const auto data = batches(4);
    for (const Head& h : heads()) {
        if (h.name != "centers") continue;
        HeadRun run(h);
        for (const TrainBatch& batch : data) one_step(run.trainer, batch);
        const bf::QueueRows rows = run.broad.queue().newest(batch_size, false);
        for (std::int64_t i = 0; i < batch_size; ++i)
            EXPECT_EQ(rows.labels.data<std::int64_t>()[i] / 3, data[3].labels.data<std::int64_t>()[i]);
        EXPECT_LE(run.broad.telemetry(run.w.value(), 4).distinct, people);
    }
}

TEST(TrainerHeads, MicroBatchesMoveTheStateOneByOne) {
    const auto data = batches(4);
    for (const Head& h : heads()) {
        if (h.name != "adaface" && h.name != "elastic_arc") continue;
        HeadRun pairs(h), twin(h);
        const StateDict start = copied(pairs.head.save_state());
        pairs.trainer.step(std::vector{data[0], data[1]});
        const StateDict moved = pairs.head.save_state();
        if (h.name == "elastic_arc") {
            EXPECT_EQ(moved.at("head.calls").data<std::int64_t>()[0], 2);
        } else {
            EXPECT_NE(moved.at("head.norms").data<double>()[0], start.at("head.norms").data<double>()[0]);
            one_step(twin.trainer, data[0]);
            EXPECT_NE(moved.at("head.norms").data<double>()[0],
                      twin.head.save_state().at("head.norms").data<double>()[0]);
        }
    }
}

// The penalty of MagFace is the encoder's alone, and not the queue's.
TEST(TrainerHeads, MagFacesPenaltyIsInTheEncodersLossAlone) {
    const auto data = batches(1);
    for (const Head& h : heads()) {
        HeadRun run(h);
        const StepReport r = one_step(run.trainer, data[0]);
        if (h.name.rfind("magface", 0) == 0)
            EXPECT_GT(r.loss, r.classifier_loss) << h.name;
        else
            EXPECT_EQ(r.loss, r.classifier_loss) << h.name;
    }
}

}  // namespace
