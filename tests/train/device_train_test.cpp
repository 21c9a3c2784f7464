// Training on a device against training on the host.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <utility>

#include "bf/io/checkpoint.hpp"
#include "bf/train/embed.hpp"
#include "device.hpp"
#include "tiny_run.hpp"

namespace {

using namespace tiny_run;
using bf::BroadFace;
using bf::Device;
using bf::DType;
using bf::StepReport;
using bf::Tensor;

class GpuTraining : public OnDevice {};

/// Bit for bit on the emulated device, which computes with the host's kernels.
void expect_same(double there, double here, double tolerance) {
#ifdef BF_EMULATED_DEVICE
    static_cast<void>(tolerance);
    EXPECT_EQ(there, here);
#else
    EXPECT_NEAR(there, here, tolerance * std::max(1.0, std::abs(here)));
#endif
}

TEST_F(GpuTraining, TenRecordedLossesWithBroadFaceOff) {
    const Losses there = ten_steps(0, test_device), here = ten_steps(0);
    expect_recorded(there, recorded_off);
    for (std::size_t i = 0; i < 10; ++i) expect_same(there.encoder[i], here.encoder[i], 2e-3);
}

TEST_F(GpuTraining, TenRecordedLossesWithBroadFaceOn) {
    const Losses there = ten_steps(20, test_device), here = ten_steps(20);
    expect_recorded(there, recorded_on);
    for (std::size_t i = 0; i < 10; ++i) {
        expect_same(there.encoder[i], here.encoder[i], 2e-3);
        expect_same(there.classifier[i], here.classifier[i], 2e-3);
    }
}

/// A run with momentum, a queue that wraps and a warm-up, on one device.
struct DeviceTraining : Parts {
    explicit DeviceTraining(Device device)
        : Parts(0, device), where(device), broad({.queue = 20}, dim, DType::f32, device) {}
    StepReport step(const bf::TrainBatch& batch) { return one_step(trainer, on(where, batch)); }
    Device where;
    BroadFace broad;
    bf::Trainer<BroadFace> trainer{*net, w, sgd, warm_up, broad};
};

/// Trains three steps on one device, saves, and goes on on the other; the reports of steps 4 to 6 of both.
void expect_resumes_on(Device first, Device second) {
    const auto folder = std::filesystem::temp_directory_path() /
                        ("bf_device_train_" + first.name().substr(0, 4) + std::to_string(::getpid()));
    const auto data = batches(6), other = batches(1, 77);
    DeviceTraining whole(first), resumed(second);
    for (std::size_t i = 0; i < 3; ++i) whole.step(data[i]);
    bf::CheckpointFolder checkpoints(folder);
    checkpoints.save(3, whole.trainer.state(), {});
    resumed.step(other[0]);  // everything in it must be replaced
    const auto loaded = checkpoints.load_latest();
    std::filesystem::remove_all(folder);
    ASSERT_TRUE(loaded);
    resumed.trainer.load_state(loaded->content.tensors);
    for (std::size_t i = 3; i < 6; ++i) {
        const StepReport a = whole.step(data[i]), b = resumed.step(data[i]);
        EXPECT_EQ(a.step, b.step);
        EXPECT_EQ(a.lr, b.lr);
        expect_same(a.loss, b.loss, 2e-3);
        expect_same(a.classifier_loss, b.classifier_loss, 2e-3);
        EXPECT_NE(a.loss, a.classifier_loss);  // the queue takes part
    }
}

TEST_F(GpuTraining, ACheckpointOfADeviceIsResumedOnTheCpu) { expect_resumes_on(test_device, bf::cpu_device); }
TEST_F(GpuTraining, ACheckpointOfTheCpuIsResumedOnADevice) { expect_resumes_on(bf::cpu_device, test_device); }

TEST_F(GpuTraining, EmbeddingsAreThoseOfTheCpu) {
    const bf::SyntheticFaces faces({.identities = 3, .images_per_identity = 5, .size = 16});
    Parts here, there(0, test_device);
    const auto data = batches(2);
    bf::Trainer<> trainer(*here.net, here.w, here.sgd, constant_lr);
    for (const bf::TrainBatch& batch : data) one_step(trainer, batch);  // running statistics of its own
    there.net->load_state(here.net->state());
    const Tensor a = bf::embed(*here.net, faces, 16), b = bf::embed(*there.net, faces, 16);
    ASSERT_EQ(b.shape(), (bf::Shape{15, dim}));
    double largest = 0;
    for (const float v : a.span<float>()) largest = std::max(largest, std::abs(static_cast<double>(v)));
    for (std::int64_t i = 0; i < a.numel(); ++i)
        ASSERT_NEAR(b.data<float>()[i], a.data<float>()[i], 1e-4 * largest) << i;
}

TEST_F(GpuTraining, InBf16TheLossesStayNearThoseInF32) {
    if (!bf::device_runtime(test_device).has_bf16(test_device.index)) GTEST_SKIP() << "the device has no bf16";
    Parts p(0, test_device, DType::bf16);
    bf::Trainer<> trainer(*p.net, p.w, p.sgd, constant_lr);
    const auto data = batches(10);
    for (std::size_t i = 0; i < 10; ++i) {
        const double loss = one_step(trainer, on(test_device, data[i])).loss;
        EXPECT_NEAR(loss, recorded_off.encoder[i], 0.05 * recorded_off.encoder[i]) << i;
        EXPECT_NE(loss, recorded_off.encoder[i]);
    }
}

TEST_F(GpuTraining, AGraphIsReplacedWhileItsLaunchesAreQueued) {
    const auto data = batches(12);
    const auto losses = [&](bool graph) {
        Parts p(0, test_device);
        BroadFace broad({.queue = 20, .start_step = 6}, dim, DType::f32, test_device);  // other work from then on
        bf::TrainerOptions options = constant_lr;
        options.graph = graph;
        bf::Trainer trainer(*p.net, p.w, p.sgd, options, broad);
        std::vector<bf::PendingStep> pending;
        for (const bf::TrainBatch& batch : data) {
            const bf::TrainBatch there = on(test_device, batch);
            pending.push_back(trainer.launch(std::span(&there, 1)));
        }
        EXPECT_EQ(trainer.graph_launches() > 3, graph);
        std::vector<double> all;
        for (bf::PendingStep& step : pending) all.push_back(trainer.finish(std::move(step)).classifier_loss);
        return all;
    };
    EXPECT_EQ(losses(true), losses(false));
}

#ifdef BF_EMULATED_DEVICE
TEST_F(GpuTraining, AStepThatIsQueuedWaitsForTheDeviceZeroTimes) {
    for (const bool graph : {false, true}) {
        Parts p(0, test_device);
        BroadFace broad({.queue = 20}, dim, DType::f32, test_device);
        bf::TrainerOptions options = constant_lr;
        options.graph = graph;
        options.want_gradient_norm = true;
        bf::Trainer trainer(*p.net, p.w, p.sgd, options, broad);
        std::vector<bf::TrainBatch> data;
        for (const bf::TrainBatch& batch : batches(10)) data.push_back(on(test_device, batch));
        for (std::size_t i = 0; i < 7; ++i) one_step(trainer, data[i]);
        const std::size_t held = bf::device_memory(test_device).stats(test_device.index).system_calls;
        const Counted counted;
        std::vector<bf::PendingStep> pending;
        for (std::size_t i = 7; i < 10; ++i) pending.push_back(trainer.launch(std::span(&data[i], 1)));
        EXPECT_EQ(counted.host_waits(), 0u);
        EXPECT_EQ(counted.graph_launches(), graph ? 3u : 0u);
        EXPECT_EQ(bf::device_memory(test_device).stats(test_device.index).system_calls, held);
        for (bf::PendingStep& step : pending) EXPECT_GT(trainer.finish(std::move(step)).gradient_norm, 0);
        EXPECT_EQ(counted.host_waits(), 3u);
    }
}
#endif

}  // namespace
