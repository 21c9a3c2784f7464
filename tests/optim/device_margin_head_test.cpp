// Heads that set a margin for each row on a device: the golden vectors, and that nothing waits for it.
#include "bf/nn/init.hpp"
#include "device.hpp"
#include "golden_heads.hpp"

namespace {

class GpuMarginHead : public OnDevice {};

TEST_F(GpuMarginHead, GoldenStepsInF64) { golden_heads::run_golden_heads(bf::DType::f64, test_device); }
TEST_F(GpuMarginHead, GoldenStepsInF32) { golden_heads::run_golden_heads(bf::DType::f32, test_device); }

#ifdef BF_EMULATED_DEVICE
TEST_F(GpuMarginHead, NothingWaitsForTheDevice) {
    const bf::Tensor w = bf::Init(8).normal({5, 6}, 1).to(test_device),
                     x = bf::Init(9).normal({3, 6}, 30).to(test_device),
                     y = bf::Tensor::from<std::int64_t>({0, 4, 2}, {3}).to(test_device);
    for (const std::string& name : golden_heads::names) {
        const auto [margin, rule] = golden_heads::head_named(name);
        const bf::MarginHead head(rule, test_device);
        const Counted counted;
        const bf::Var e = bf::Var::leaf(x), v = bf::Var::leaf(w);
        bf::backward(bf::margin_softmax(e, v, y, {.margin = margin, .memory = {x, y, 3}, .head = &head}).loss);
        EXPECT_EQ(counted.host_waits(), 0u) << name;
        EXPECT_GT(counted.launches(), 0u) << name;
    }
}
#endif

}  // namespace
