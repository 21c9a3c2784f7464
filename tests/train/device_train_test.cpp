// Training on a device against training on the host.
#include <cmath>
#include <filesystem>

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

/// Products of f32 stay f32, and the same bits come from run to run.
class GpuTraining : public OnDevice {
  protected:
    void SetUp() override {
        OnDevice::SetUp();
        if (IsSkipped()) return;
        before_ = bf::device_runtime(test_device).settings(test_device.index);
        bf::device_runtime(test_device).configure({.tf32 = false, .deterministic = true}, test_device.index);
    }
    void TearDown() override {
        if (!IsSkipped()) bf::device_runtime(test_device).configure(before_, test_device.index);
    }

  private:
    bf::DeviceSettings before_;
};

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
struct Training : Parts {
    explicit Training(Device device) : Parts(0, device), where(device), broad({.queue = 20}, dim, DType::f32, device) {}
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
    Training whole(first), resumed(second);
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

}  // namespace
