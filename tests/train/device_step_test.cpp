// Steps that are queued ahead of the device: uploads, values read later, graphs.
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>

#include "bf/train/upload.hpp"
#include "device.hpp"
#include "tiny_run.hpp"

namespace {

using namespace tiny_run;
using bf::BroadFace;
using bf::BroadFaceOptions;
using bf::StateDict;
using bf::StepReport;
using bf::Tensor;
using bf::TrainBatch;
using bf::TrainerOptions;

class GpuStep : public OnDevice {};
class GpuUpload : public OnDevice {};
class GpuReadback : public OnDevice {};

bf::Batch host_batch(const TrainBatch& b) { return {.images = b.images, .labels = b.labels, .indices = b.indices}; }

/// A trainer with a queue on the device, and everything it wants.
struct TinyRun {
    explicit TinyRun(const TrainerOptions& options, const BroadFaceOptions& queue = {.queue = 20}, double dropout = 0,
                     bf::DType compute = bf::DType::f32)
        : parts(dropout, test_device, compute),
          broad(queue, dim, bf::DType::f32, test_device),
          trainer(*parts.net, parts.w, parts.sgd, options, broad) {}
    Parts parts;
    BroadFace broad;
    bf::Trainer<BroadFace> trainer;
};

TrainerOptions with(TrainerOptions options, bool graph) {
    options.want_gradient_norm = true;
    options.graph = graph;
    return options;
}

/// Everything that a trainer holds, on the host.
StateDict on_host(const StateDict& state) {
    StateDict all;
    for (const auto& [name, tensor] : state) all[name] = tensor.to(bf::cpu_device).clone();
    return all;
}
void expect_same_state(const StateDict& a, const StateDict& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : a)
        EXPECT_EQ(std::memcmp(tensor.raw(), b.at(name).raw(), tensor.bytes()), 0) << name;
}
void expect_same_reports(const std::vector<StepReport>& a, const std::vector<StepReport>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].step, b[i].step);
        EXPECT_EQ(a[i].loss, b[i].loss) << "step " << i;
        EXPECT_EQ(a[i].classifier_loss, b[i].classifier_loss) << "step " << i;
        EXPECT_EQ(a[i].accuracy, b[i].accuracy) << "step " << i;
        EXPECT_EQ(a[i].gradient_norm, b[i].gradient_norm) << "step " << i;
        EXPECT_EQ(a[i].lr, b[i].lr);
    }
}
std::vector<StepReport> steps(TinyRun& run, const std::vector<TrainBatch>& data) {
    std::vector<StepReport> reports;
    for (const TrainBatch& batch : data) reports.push_back(one_step(run.trainer, on(test_device, batch)));
    return reports;
}

// ---- ahead of the device

TEST_F(GpuStep, QueuedAheadEqualsOneByOneBitForBit) {
    const auto data = batches(8);
    TinyRun one_by_one(with(warm_up, false)), ahead(with(warm_up, false));
    const auto want = steps(one_by_one, data);
    bf::Upload upload(test_device);
    std::deque<bf::PendingStep> pending;
    std::vector<StepReport> got;
    const auto take_in = [&] {
        got.push_back(ahead.trainer.finish(std::move(pending.front())));
        pending.pop_front();
    };
    for (const TrainBatch& b : data) {
        // the loader's memory goes as soon as the batch is on its way
        bf::Batch batch{.images = b.images.clone(), .labels = b.labels.clone(), .indices = b.indices};
        const std::vector<TrainBatch> there = upload(std::span(&batch, 1));
        std::fill_n(batch.images.data<float>(), batch.images.numel(), std::numeric_limits<float>::quiet_NaN());
        pending.push_back(ahead.trainer.launch(there));
        while (pending.size() > 2) take_in();
    }
    while (!pending.empty()) take_in();
    expect_same_reports(got, want);
    expect_same_state(on_host(ahead.trainer.state()), on_host(one_by_one.trainer.state()));
}

TEST_F(GpuStep, ADivergedStepIsReportedAndLeavesTheParameters) {
    TinyRun run(with(constant_lr, false));
    const auto data = batches(2);
    one_step(run.trainer, on(test_device, data[0]));
    const Tensor w = run.parts.w.value().to(bf::cpu_device).clone();
    TrainBatch broken = on(test_device, data[1]);
    broken.images = Tensor::empty(broken.images.shape(), broken.images.options());
    bf::kernels(test_device).fill(bf::context(test_device), broken.images, std::nan(""));
    bf::PendingStep pending = run.trainer.launch(std::span(&broken, 1));
    try {
        run.trainer.finish(std::move(pending));
        FAIL() << "want an Error";
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::diverged);
        EXPECT_NE(std::string(e.what()).find("step 2"), std::string::npos) << e.what();
    }
    EXPECT_EQ(std::memcmp(w.raw(), run.parts.w.value().to(bf::cpu_device).raw(), w.bytes()), 0);
}

// ---- graphs

TEST_F(GpuStep, AGraphEqualsStepsBitForBit) {
    const auto data = batches(9);
    struct Kind {
        bf::DType compute;
        std::int64_t queue;
    };
    for (const Kind& kind : {Kind{bf::DType::f32, 0}, Kind{bf::DType::f32, 20}, Kind{bf::DType::bf16, 20}}) {
        TinyRun plain(with(warm_up, false), {.queue = kind.queue}, 0, kind.compute),
            graph(with(warm_up, true), {.queue = kind.queue}, 0, kind.compute);
        const auto want = steps(plain, data), got = steps(graph, data);
        EXPECT_EQ(graph.trainer.graph_note(), "");
        // three alike first; a queue of 20 is full after three batches of 8
        EXPECT_EQ(graph.trainer.graph_launches(), kind.queue ? 3u : 6u);
        EXPECT_EQ(plain.trainer.graph_launches(), 0u);
        expect_same_reports(got, want);
        expect_same_state(on_host(graph.trainer.state()), on_host(plain.trainer.state()));
    }
}

TEST_F(GpuStep, AGraphHoldsMicroBatches) {
    const auto data = batches(12);
    TinyRun plain(with(warm_up, false)), graph(with(warm_up, true));
    for (std::size_t i = 0; i + 1 < data.size(); i += 2) {
        const std::vector<TrainBatch> pair{on(test_device, data[i]), on(test_device, data[i + 1])};
        const StepReport want = plain.trainer.step(pair), got = graph.trainer.step(pair);
        expect_same_reports({got}, {want});
    }
    EXPECT_GT(graph.trainer.graph_launches(), 0u);
    expect_same_state(on_host(graph.trainer.state()), on_host(plain.trainer.state()));
}

TEST_F(GpuStep, AnotherShapeRunsWithoutTheGraphAndALaterOneIsCapturedAgain) {
    auto data = batches(14);
    const auto half = [](const TrainBatch& b) {
        return TrainBatch{b.images.rows(0, 4).clone(), b.labels.rows(0, 4).clone(), b.indices.rows(0, 4).clone()};
    };
    data[6] = half(data[6]);
    TinyRun plain(with(warm_up, false), {.queue = 0}), graph(with(warm_up, true), {.queue = 0});
    expect_same_reports(steps(graph, data), steps(plain, data));
    EXPECT_EQ(graph.trainer.graph_launches(), 3u + 4u);  // steps 4 to 6, and 11 to 14
    expect_same_state(on_host(graph.trainer.state()), on_host(plain.trainer.state()));
}

TEST_F(GpuStep, DropoutRunsWithoutAGraphAndSaysWhy) {
    const auto data = batches(6);
    TinyRun plain(with(warm_up, false), {.queue = 20}, 0.2), graph(with(warm_up, true), {.queue = 20}, 0.2);
    expect_same_reports(steps(graph, data), steps(plain, data));
    EXPECT_EQ(graph.trainer.graph_launches(), 0u);
    EXPECT_NE(graph.trainer.graph_note().find("dropout"), std::string::npos) << graph.trainer.graph_note();
}

/// Reads a value in the middle of the forward pass, which no graph can hold, and says that it may be captured.
struct Peeks {
    double seen = 0;
    void after_forward(bf::ForwardState& s) { seen = s.embeddings.rows(0, 1).to(bf::cpu_device).data<float>()[0]; }
    std::uint64_t replay_key(std::uint64_t) const { return 1; }
};
/// The same without the promise.
struct PeeksHonestly {
    double seen = 0;
    void after_forward(bf::ForwardState& s) { seen = s.embeddings.rows(0, 1).to(bf::cpu_device).data<float>()[0]; }
};

TEST_F(GpuStep, ACaptureThatFailsGoesOnWithoutAndSaysWhy) {
    const auto data = batches(8);
    Parts a(0, test_device), b(0, test_device);
    Peeks peeks, other;
    bf::Trainer<Peeks> plain(*a.net, a.w, a.sgd, with(warm_up, false), other),
        graph(*b.net, b.w, b.sgd, with(warm_up, true), peeks);
    for (const TrainBatch& batch : data)
        expect_same_reports({one_step(graph, on(test_device, batch))}, {one_step(plain, on(test_device, batch))});
    EXPECT_EQ(graph.graph_launches(), 0u);
    EXPECT_FALSE(graph.graph_note().empty());
    expect_same_state(on_host(graph.state()), on_host(plain.state()));
}

TEST_F(GpuStep, AStageThatPromisesNothingIsNotCaptured) {
    const auto data = batches(6);
    Parts parts(0, test_device);
    PeeksHonestly peeks;
    bf::Trainer<PeeksHonestly> trainer(*parts.net, parts.w, parts.sgd, with(warm_up, true), peeks);
    for (const TrainBatch& batch : data) one_step(trainer, on(test_device, batch));
    EXPECT_EQ(trainer.graph_launches(), 0u);
    EXPECT_NE(trainer.graph_note().find("replay_key"), std::string::npos) << trainer.graph_note();
}

TEST_F(GpuStep, AParameterOutsideTheOptimizerRunsWithoutAGraph) {
    const auto data = batches(6);
    Parts parts(0, test_device);
    std::vector<bf::Parameter> some = parts.net->parameters();
    some.erase(some.begin());
    bf::Sgd sgd({{.parameters = some}, {.parameters = {{"classifier.weight", parts.w}}}});
    bf::Trainer<> trainer(*parts.net, parts.w, sgd, with(warm_up, true));
    for (const TrainBatch& batch : data) one_step(trainer, on(test_device, batch));
    EXPECT_EQ(trainer.graph_launches(), 0u);
    EXPECT_NE(trainer.graph_note().find("conv1.weight"), std::string::npos) << trainer.graph_note();
}

TEST_F(GpuStep, ASavedStateContinuesUnderAGraph) {
    const auto data = batches(12);
    TinyRun whole(with(warm_up, true)), cut(with(warm_up, true)), rest(with(warm_up, true));
    const auto want = steps(whole, data);
    auto got = steps(cut, {data.begin(), data.begin() + 8});
    rest.trainer.load_state(on_host(cut.trainer.state()));
    for (const StepReport& r : steps(rest, {data.begin() + 8, data.end()})) got.push_back(r);
    expect_same_reports(got, want);
    expect_same_state(on_host(rest.trainer.state()), on_host(whole.trainer.state()));
}

// ---- uploads and values

TEST_F(GpuUpload, TwoSetsTakeTurns) {
    const auto data = batches(6);
    bf::Upload upload(test_device);
    std::vector<TrainBatch> before;
    for (std::size_t i = 0; i + 1 < data.size(); i += 2) {
        const std::vector<bf::Batch> pair{host_batch(data[i]), host_batch(data[i + 1])};
        const std::vector<TrainBatch> there = upload(pair);
        for (std::size_t m = 0; m < 2; ++m) {
            const Tensor images = there[m].images.to(bf::cpu_device), labels = there[m].labels.to(bf::cpu_device);
            EXPECT_EQ(std::memcmp(images.raw(), data[i + m].images.raw(), images.bytes()), 0) << i + m;
            EXPECT_EQ(std::memcmp(labels.raw(), data[i + m].labels.raw(), labels.bytes()), 0) << i + m;
            EXPECT_TRUE(there[m].indices.shares_storage(data[i + m].indices));
        }
        for (const TrainBatch& old : before) {  // the set before is still whole
            const Tensor images = old.images.to(bf::cpu_device);
            EXPECT_EQ(
                std::memcmp(images.raw(), data[i - 2 + static_cast<std::size_t>(&old - before.data())].images.raw(),
                            images.bytes()),
                0);
        }
        before = there;
    }
}

TEST_F(GpuUpload, ASmallerBatchFits) {
    const auto data = batches(2);
    bf::Upload upload(test_device);
    for (const std::int64_t rows : {8, 3, 8, 5}) {
        const bf::Batch batch{.images = data[0].images.rows(0, rows).clone(),
                              .labels = data[0].labels.rows(0, rows).clone(),
                              .indices = data[0].indices.rows(0, rows).clone()};
        const Tensor there = upload(std::span(&batch, 1))[0].images.to(bf::cpu_device);
        EXPECT_EQ(there.dim(0), rows);
        EXPECT_EQ(std::memcmp(there.raw(), batch.images.raw(), there.bytes()), 0);
    }
}

TEST(Upload, OnTheHostBatchesPassThrough) {
    const auto data = batches(1);
    bf::Upload upload(bf::cpu_device);
    const bf::Batch batch = host_batch(data[0]);
    EXPECT_TRUE(upload(std::span(&batch, 1))[0].images.shares_storage(batch.images));
}

TEST_F(GpuReadback, ValuesOfTheMomentInTheirOrder) {
    bf::Readback values(test_device);
    const Tensor a = bf::full({}, 1.5).to(test_device), b = bf::full({1}, -2.25, bf::DType::f64).to(test_device);
    values.start({a, b, a});
    bf::kernels(test_device).fill(bf::context(test_device), a, 7);  // queued later
    EXPECT_EQ(values.get(), (std::vector<double>{1.5, -2.25, 1.5}));
    values.start({a});
    EXPECT_EQ(values.get(), std::vector<double>{7});
    EXPECT_TRUE(values.ready());
    EXPECT_THROW(values.start({bf::full({2}, 1).to(test_device)}), bf::Error);
    EXPECT_THROW(values.start({bf::full({}, 1)}), bf::Error);
}

TEST(Readback, OnTheHost) {
    bf::Readback values(bf::cpu_device);
    values.start({bf::full({}, 3), bf::full({}, 4, bf::DType::f64)});
    EXPECT_TRUE(values.ready());
    EXPECT_EQ(values.get(), (std::vector<double>{3, 4}));
}

}  // namespace
