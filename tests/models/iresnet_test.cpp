#include "bf/models/iresnet.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "bf/core/parallel.hpp"
#include "bf/ops/reduce.hpp"

namespace {

using bf::Tensor;
using bf::Var;

struct Published {
    const char* name;
    std::int64_t parameters;
    double giga_macs;
};

// Reference networks-and-recipes D3: parameter counts as run in PyTorch, multiply-accumulates as computed there.
class IResNetSize : public ::testing::TestWithParam<Published> {};

TEST_P(IResNetSize, ParametersAndMultiplyAccumulates) {
    const auto net = bf::iresnet(GetParam().name);
    EXPECT_EQ(net->parameter_count(), GetParam().parameters);
    EXPECT_NEAR(static_cast<double>(bf::multiply_accumulates(net->options())) * 1e-9, GetParam().giga_macs, 0.0006);
}

std::string name_of_row(const ::testing::TestParamInfo<Published>& row) { return row.param.name; }
INSTANTIATE_TEST_SUITE_P(Published, IResNetSize,
                         ::testing::Values(Published{"r18", 24025600, 2.610}, Published{"r34", 34139328, 4.460}),
                         name_of_row);
INSTANTIATE_TEST_SUITE_P(Slow, IResNetSize,
                         ::testing::Values(Published{"r50", 43590848, 6.309}, Published{"r100", 65156160, 12.090},
                                           Published{"r200", 118833920, 23.419}),
                         name_of_row);

TEST(IResNet, NamesAreInsightFaces) {
    const auto net = bf::iresnet("r18");
    std::set<std::string> names;
    for (const auto& p : net->parameters()) names.insert(p.name);
    for (const auto& [name, tensor] : net->buffers()) names.insert(name);
    for (const char* name : {"conv1.weight", "bn1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.bn1.weight",
                             "layer1.0.conv1.weight", "layer1.0.bn2.bias", "layer1.0.prelu.weight",
                             "layer1.0.conv2.weight", "layer1.0.bn3.running_var", "layer1.0.downsample.0.weight",
                             "layer1.0.downsample.1.weight", "layer4.1.conv2.weight", "bn2.weight", "fc.weight",
                             "fc.bias", "features.weight", "features.bias", "features.running_mean"})
        EXPECT_TRUE(names.count(name)) << name;
    EXPECT_FALSE(names.count("layer1.1.downsample.0.weight"));
    EXPECT_FALSE(names.count("conv1.bias"));
    const auto parameters = net->parameters();
    const auto frozen = std::find_if(parameters.begin(), parameters.end(), [](const auto& p) { return !p.trainable; });
    EXPECT_EQ(frozen->name, "features.weight");
}

Tensor images(std::int64_t n, std::int64_t size) {
    bf::Init init(5);
    return init.normal({n, 3, size, size}, 1);
}

TEST(IResNet, SmallOneTrainsAndEvaluatesAtAnySize) {
    for (std::int64_t size : {32, 48}) {
        const auto net = bf::iresnet("iresnet_small", {.embedding_size = 64, .image_size = size});
        const Var x(images(4, size));
        const Var e = (*net)(x);
        EXPECT_EQ(e.shape(), (bf::Shape{4, 64}));
        bf::backward(bf::mean(bf::square(e)));
        for (const auto& p : net->parameters()) EXPECT_EQ(p.var.grad().defined(), p.trainable) << p.name;
        net->eval();
        const Tensor a = (*net)(x).value(), b = (*net)(Var(x.value().rows(0, 2))).value();
        for (std::int64_t i = 0; i < b.numel(); ++i) ASSERT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-4f);
    }
    EXPECT_THROW(bf::iresnet("iresnet_small", {.image_size = 50}), bf::Error);
    EXPECT_THROW(bf::iresnet("r19"), bf::Error);
}

TEST(IResNet, StepAllocatesNothingAfterWarmUp) {
    const Var x(images(4, 32));
    // Scratch is taken by running tasks, so how much is live at once depends on timing; one thread makes it repeat.
    const int threads = bf::cpu_pool().threads();
    bf::cpu_pool().resize(1);
    for (const bool checkpointing : {false, true}) {
        const auto net = bf::iresnet(
            "iresnet_small", {.embedding_size = 64, .image_size = 32, .activation_checkpointing = checkpointing});
        const auto step = [&] {
            for (const auto& p : net->parameters()) p.var.zero_grad();
            bf::backward(bf::mean(bf::square((*net)(x))));
        };
        step();
        step();
        const auto calls = bf::cpu_allocator().stats().system_calls;
        for (int i = 0; i < 3; ++i) step();
        EXPECT_EQ(bf::cpu_allocator().stats().system_calls, calls) << "activation checkpointing " << checkpointing;
    }
    bf::cpu_pool().resize(threads);
}

TEST(IResNet, StateRoundTrip) {
    const auto a = bf::iresnet("iresnet_small", {.embedding_size = 32, .image_size = 32, .seed = 1});
    const auto b = bf::iresnet("iresnet_small", {.embedding_size = 32, .image_size = 32, .seed = 2});
    b->load_state(a->state());
    a->eval();
    b->eval();
    const Var x(images(2, 32));
    const Tensor ya = (*a)(x).value(), yb = (*b)(x).value();
    for (std::int64_t i = 0; i < ya.numel(); ++i) ASSERT_EQ(ya.data<float>()[i], yb.data<float>()[i]);
    auto partial = a->state();
    partial.erase("fc.weight");
    EXPECT_THROW(b->load_state(partial), bf::Error);
}

}  // namespace
