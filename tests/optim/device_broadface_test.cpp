// BroadFace on a device: the golden vectors, and the queue's state against the host's.
#include "bf/nn/init.hpp"
#include "class_heads_steps.hpp"
#include "device.hpp"
#include "golden_steps.hpp"
#include "memory_steps.hpp"

namespace {

using bf::BroadFace;
using bf::DType;
using bf::Tensor;

class GpuBroadFace : public OnDevice {};

TEST_F(GpuBroadFace, GoldenMargins) { broadface_golden::run_golden_margins(test_device); }
TEST_F(GpuBroadFace, GoldenMarginsBeyondTheGuard) { broadface_golden::run_golden_beyond_the_guard(test_device); }
TEST_F(GpuBroadFace, GoldenStepsInF64) { broadface_golden::run_golden_steps(DType::f64, test_device); }
TEST_F(GpuBroadFace, GoldenStepsInF32) { broadface_golden::run_golden_steps(DType::f32, test_device); }
TEST_F(GpuBroadFace, GoldenXbm) {
    for (const DType dtype : {DType::f64, DType::f32}) memory_golden::run_golden_xbm(dtype, test_device);
}
TEST_F(GpuBroadFace, GoldenVpl) {
    for (const DType dtype : {DType::f64, DType::f32}) memory_golden::run_golden_vpl(dtype, test_device);
}
TEST_F(GpuBroadFace, GoldenStepsOfCurricularFace) { class_heads_golden::run_curricular_steps(DType::f64, test_device); }
TEST_F(GpuBroadFace, GoldenStepsOfSubCenters) { class_heads_golden::run_center_steps(DType::f64, test_device); }

/// Rows of labels that come again, pushed past the end of the ring.
void push_some(BroadFace& broad, bf::Device device) {
    bf::Init init(7);
    for (std::uint64_t step = 0; step < 5; ++step) {
        const Tensor e = init.normal({4, 6}, 1), w = init.normal({5, 6}, 1);
        const Tensor y = Tensor::from<std::int64_t>({0, 4, static_cast<std::int64_t>(step), 2}, {4}),
                     places = Tensor::from<std::int64_t>({1, 2, 3, static_cast<std::int64_t>(step)}, {4});
        broad.push(e.to(device), y.to(device), w.to(device), step, places);
    }
}

TEST_F(GpuBroadFace, TheQueueHoldsWhatTheHostsHolds) {
    for (const bool overwrite : {false, true}) {
        BroadFace here({.queue = 9, .overwrite = overwrite}, 6),
            there({.queue = 9, .overwrite = overwrite}, 6, DType::f32, test_device);
        push_some(here, bf::cpu_device);
        push_some(there, test_device);
        const Tensor w = bf::Init(8).normal({5, 6}, 1);
        const bf::ClassifierMemory a = here.memory(w, 5), b = there.memory(w.to(test_device), 5);
        EXPECT_EQ(b.embeddings.device(), test_device);
        EXPECT_EQ(a.total, b.total);
        const auto expect_near = [](const Tensor& x, const Tensor& device_y, const std::string& what) {
            const Tensor y = device_y.to(bf::cpu_device);
            ASSERT_EQ(x.shape(), y.shape()) << what;
            if (x.dtype() == DType::f32)
                for (std::int64_t i = 0; i < x.numel(); ++i)
                    ASSERT_NEAR(x.data<float>()[i], y.data<float>()[i], 1e-5) << what << " element " << i;
            else
                EXPECT_EQ(std::memcmp(x.raw(), y.raw(), x.bytes()), 0) << what;
        };
        expect_near(a.embeddings, b.embeddings, "memory");
        expect_near(a.labels, b.labels, "labels");
        const auto state = there.save_state();
        for (const auto& [name, tensor] : here.save_state()) expect_near(tensor, state.at(name), name);
        const bf::QueueTelemetry t = here.telemetry(w, 5), u = there.telemetry(w.to(test_device), 5);
        EXPECT_EQ(t.distinct, u.distinct);
        EXPECT_NEAR(t.norm_ratio, u.norm_ratio, 1e-5);
        EXPECT_EQ(t.age_histogram, u.age_histogram);
    }
}

#ifdef BF_EMULATED_DEVICE
TEST_F(GpuBroadFace, NeitherPushingNorUsingTheQueueWaitsForTheDevice) {
    BroadFace broad({.queue = 9}, 6, DType::f32, test_device);
    const Tensor w = bf::Init(8).normal({5, 6}, 1).to(test_device);
    const Counted counted;
    push_some(broad, test_device);
    broad.memory(w, 5);
    EXPECT_EQ(counted.host_waits(), 0u);
    EXPECT_GT(counted.launches(), 0u);
}
#endif

}  // namespace
