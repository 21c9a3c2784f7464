#include "bf/train/queue_drift.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tiny_run.hpp"

namespace {

using bf::BroadFace;
using bf::Tensor;

/// A run whose loader, unlike that of tiny_run, changes its images, and whose network has dropout.
struct DriftRun {
    explicit DriftRun(double lr, std::int64_t queue = 60, int micro = 1)
        : broad({.queue = queue}, tiny_run::dim), micro_(micro) {
        trainer = std::make_unique<bf::Trainer<BroadFace>>(
            *parts.net, parts.w, parts.sgd,
            bf::TrainerOptions{.margin = tiny_run::margin, .schedule = {.kind = bf::ScheduleKind::constant, .lr = lr}},
            broad);
    }
    static bf::LoaderOptions options() {
        return {.batch_size = tiny_run::batch_size,
                .image_size = 16,
                .seed = 6,
                .workers = 2,
                .augment = {.flip = true, .crop_pad = 2, .erase = 0.5f}};
    }
    void steps(int count) {
        for (int i = 0; i < count; ++i) {
            std::vector<bf::TrainBatch> batches;
            for (int m = 0; m < micro_; ++m) {
                const bf::Batch b = loader.next();
                batches.push_back({b.images, b.labels, b.indices});
            }
            trainer->step(batches);
        }
    }
    bf::QueueDrift drift(const bf::DriftOptions& o = {}) {
        return bf::measure_drift(broad, *parts.net, parts.w.value(), loader, trainer->steps(), o);
    }
    bf::SyntheticFaces faces{{.identities = tiny_run::people, .images_per_identity = 8, .size = 16}};
    BroadFace broad;
    tiny_run::Parts parts{0.3};
    bf::Loader loader{faces, options()};
    std::unique_ptr<bf::Trainer<BroadFace>> trainer;

  private:
    int micro_;
};

// The measure has no floor of its own: augmentation, batch statistics and dropout of then are made again.
TEST(MeasureDrift, FindsNoErrorWhereTheNetworkDoesNotMove) {
    for (const int micro : {1, 3}) {
        DriftRun run(0, 60, micro);
        EXPECT_EQ(run.drift().all.rows, 0);  // nothing in the queue yet
        run.steps(9);
        const bf::QueueDrift drift = run.drift();
        EXPECT_EQ(drift.all.rows, 60);
        EXPECT_LT(drift.all.error_plain, 1e-5);
        EXPECT_LT(drift.all.error_compensated, 1e-5);
        EXPECT_NEAR(drift.all.cos_plain, 1, 1e-6);
        for (const bf::DriftBin& bin : drift.by_age) EXPECT_LT(bin.means.error_plain, 1e-5) << bin.youngest;
    }
}

TEST(MeasureDrift, EqualsTheNaiveComputationInARunThatMoves) {
    constexpr int steps = 12;
    DriftRun run(0.002);
    run.steps(steps);
    const bf::QueueDrift got = run.drift({.rows = 1000, .bins = 3});
    // every row: its batch from a loader that starts again, encoded by the network of now, e* by hand
    bf::Loader from_start(run.faces, DriftRun::options());
    const bf::QueueRows rows = run.broad.queue().newest(60);
    const Tensor w = run.parts.w.value();
    std::vector<double> plain(3, 0), moved(3, 0), cosine(3, 0);
    std::vector<int> count(3, 0);
    bf::KeepModes keep(*run.parts.net);
    for (int s = 0; s < steps; ++s) {
        const bf::Batch batch = from_start.next();
        run.parts.net->train();
        run.parts.net->set_step(static_cast<std::uint64_t>(s));
        const Tensor e = (*run.parts.net)(bf::Var(batch.images)).value();
        for (std::int64_t r = 0; r < tiny_run::batch_size; ++r) {
            const std::int64_t row = s * tiny_run::batch_size + r - (steps * tiny_run::batch_size - 60);
            if (row < 0) continue;
            const float *now = e.data<float>() + r * tiny_run::dim,
                        *old = rows.embeddings.data<float>() + row * tiny_run::dim,
                        *then = rows.weights.data<float>() + row * tiny_run::dim,
                        *today = w.data<float>() + batch.labels.data<std::int64_t>()[r] * tiny_run::dim;
            double oo = 0, tt = 0, nn = 0, on = 0, off_plain = 0, off_moved = 0;
            for (int d = 0; d < tiny_run::dim; ++d) {
                oo += double(old[d]) * old[d];
                tt += double(then[d]) * then[d];
                nn += double(now[d]) * now[d];
                on += double(old[d]) * now[d];
            }
            for (int d = 0; d < tiny_run::dim; ++d) {
                off_plain += std::pow(double(old[d]) - now[d], 2);
                off_moved += std::pow(old[d] + std::sqrt(oo / tt) * (double(today[d]) - then[d]) - now[d], 2);
            }
            const std::int64_t age = steps - s;  // 1 to 8, in ranges that end at 3, 6 and 9
            const std::size_t bin = age < 3 ? 0 : age < 6 ? 1 : 2;
            ++count[bin];
            plain[bin] += std::sqrt(off_plain / nn);
            moved[bin] += std::sqrt(off_moved / nn);
            cosine[bin] += on / std::sqrt(oo * nn);
        }
    }
    ASSERT_EQ(got.by_age.size(), 3u);
    EXPECT_EQ(got.by_age[2].end, 9);
    for (std::size_t b = 0; b < 3; ++b) {
        const bf::DriftMeans& m = got.by_age[b].means;
        ASSERT_EQ(m.rows, count[b]);
        EXPECT_NEAR(m.error_plain, plain[b] / count[b], 1e-4 * plain[b] / count[b]);
        EXPECT_NEAR(m.error_compensated, moved[b] / count[b], 1e-4 * moved[b] / count[b]);
        EXPECT_NEAR(m.cos_plain, cosine[b] / count[b], 1e-5);
    }
    EXPECT_LT(got.by_age[0].means.error_plain, got.by_age[2].means.error_plain);  // older rows are farther away
    EXPECT_NE(got.all.error_plain, got.all.error_compensated);
}

TEST(MeasureDrift, LeavesTheRunAsItWas) {
    DriftRun with(0.002), without(0.002);
    for (int i = 0; i < 3; ++i) {
        with.steps(2);
        without.steps(2);
        with.parts.net->eval();
        with.drift();
        EXPECT_FALSE(with.parts.net->training());
    }
    const bf::StateDict a = with.trainer->state(), b = without.trainer->state();
    for (const auto& [name, tensor] : a)
        EXPECT_EQ(std::memcmp(tensor.raw(), b.at(name).raw(), tensor.bytes()), 0) << name;
}

TEST(MeasureDrift, TakesWholeBatchesOverAllAges) {
    DriftRun run(0.002, 200);
    run.steps(25);
    const bf::QueueDrift few = run.drift({.rows = 1}), more = run.drift({.rows = 100}), all = run.drift({.rows = 5000});
    EXPECT_EQ(few.all.rows, 80);  // one batch of each of ten ranges
    EXPECT_EQ(few.by_age.size(), 10u);
    for (const bf::DriftBin& bin : few.by_age) EXPECT_EQ(bin.means.rows, 8) << bin.youngest;
    EXPECT_EQ(few.by_age.front().youngest, 1);
    EXPECT_EQ(few.by_age.back().end, 26);
    EXPECT_EQ(more.all.rows, 104);
    EXPECT_EQ(all.all.rows, 200);
}

}  // namespace
