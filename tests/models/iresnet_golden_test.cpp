// The whole network against an independent implementation (iresnet_golden.py): names, block layout, strides, shortcut,
// batch statistics, running statistics, and the channel-major flatten before the last linear.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "bf/models/iresnet.hpp"
#include "golden.hpp"

namespace {

using bf::DType;
using bf::Tensor;
using bf::Var;

const Golden& golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/models/iresnet_golden.txt");
    return g;
}

/// The network of the golden file with its weights and running values.
std::shared_ptr<bf::IResNet> network(DType dtype) {
    const auto net = std::make_shared<bf::IResNet>(bf::IResNetOptions{.blocks = {2, 1, 1, 1},
                                                                      .channels = {2, 3, 4, 5},
                                                                      .stem = 2,
                                                                      .embedding_size = 3,
                                                                      .image_size = 32,
                                                                      .dtype = dtype});
    bf::StateDict state;
    for (const auto& [name, tensor] : net->state()) state[name] = golden().tensor(name, tensor.shape(), dtype);
    net->load_state(state);
    return net;
}
Var images(DType dtype) { return Var(golden().tensor("images", {3, 3, 32, 32}, dtype)); }

/// Differences relative to the largest value of the array, so that values near zero do not decide.
void expect_near(const Tensor& got, const std::string& name, double tolerance) {
    const std::vector<double>& want = golden()[name];
    ASSERT_EQ(static_cast<std::size_t>(got.numel()), want.size()) << name;
    double largest = 0;
    for (const double w : want) largest = std::max(largest, std::abs(w));
    bf::visit_real(got.dtype(), "test", [&]<class T>() {
        for (std::size_t i = 0; i < want.size(); ++i)
            ASSERT_NEAR(static_cast<double>(got.data<T>()[i]), want[i], tolerance * largest)
                << name << " element " << i;
    });
}

// Measured: 9e-16 in f64, 3.5e-7 in f32. The limits leave room for other orders of summation; another epsilon or a
// biased running variance is off by more than 1e-5, another layout by more than 0.1.
class IResNetGolden : public ::testing::TestWithParam<DType> {
  protected:
    double tolerance() const { return GetParam() == DType::f64 ? 1e-12 : 5e-6; }
};

TEST_P(IResNetGolden, TrainingModeAndTheRunningStatisticsItLeaves) {
    const auto net = network(GetParam());
    net->train();
    const Tensor e = (*net)(images(GetParam())).value();
    ASSERT_EQ(e.shape(), (bf::Shape{3, 3}));
    expect_near(e, "train", tolerance());
    ASSERT_EQ(net->buffers().size(), 2u * 22u);
    for (const auto& [name, buffer] : net->buffers()) expect_near(buffer, "after." + name, tolerance());
}

TEST_P(IResNetGolden, EvaluationModeUsesTheRunningStatisticsAndLeavesThem) {
    const auto net = network(GetParam());
    net->eval();
    for (int pass = 0; pass < 2; ++pass) expect_near((*net)(images(GetParam())).value(), "eval", tolerance());
    for (const auto& [name, buffer] : net->buffers()) expect_near(buffer, name, GetParam() == DType::f64 ? 0 : 1e-7);
}

INSTANTIATE_TEST_SUITE_P(Types, IResNetGolden, ::testing::Values(DType::f64, DType::f32),
                         [](const auto& row) { return std::string(bf::name_of(row.param)); });

}  // namespace
