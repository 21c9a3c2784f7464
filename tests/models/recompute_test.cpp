#include <cstring>
#include <stdexcept>

#include "bf/core/parallel.hpp"
#include "bf/models/iresnet.hpp"
#include "bf/ops/reduce.hpp"
#include "device.hpp"

namespace {

using bf::Tensor;
using bf::Var;

::testing::AssertionResult same_bits(const bf::StateDict& a, const bf::StateDict& b) {
    if (a.empty() || a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " and " << b.size();
    for (const auto& [name, tensor] : a) {
        const auto it = b.find(name);
        if (it == b.end() || tensor.shape() != it->second.shape() || tensor.dtype() != it->second.dtype())
            return ::testing::AssertionFailure() << name << " is another tensor";
        if (std::memcmp(tensor.raw(), it->second.raw(), tensor.bytes()) != 0)
            return ::testing::AssertionFailure() << name << " has other bits";
    }
    return ::testing::AssertionSuccess();
}

/// Buffers, parameters, and the gradients that are there.
bf::StateDict all_of(const bf::Module& net) {
    bf::StateDict all;
    for (const auto& [name, tensor] : net.state()) all[name] = tensor.to(bf::cpu_device).clone();
    for (const bf::Parameter& p : net.parameters())
        if (p.var.grad().defined()) all["grad " + p.name] = p.var.grad().to(bf::cpu_device).clone();
    return all;
}

Tensor images(std::int64_t n, std::int64_t size, bf::DType dtype, std::uint64_t seed) {
    bf::Init init(seed, dtype);
    return init.normal({n, 3, size, size}, 1);
}

TEST(ActivationCheckpointing, GivesTheSameBits) {
    for (const bf::DType dtype : {bf::DType::f32, bf::DType::f64}) {
        const auto run = [&](bool on) {
            const auto net = bf::iresnet("iresnet_small", {.embedding_size = 32,
                                                           .image_size = 32,
                                                           .dropout = 0.4,
                                                           .dtype = dtype,
                                                           .activation_checkpointing = on});
            bf::StateDict outputs;
            for (std::uint64_t micro = 0; micro < 2; ++micro) {  // gradients add up over micro-batches
                net->set_step(micro);
                const Var e = (*net)(Var(images(4, 32, dtype, micro + 1)));
                outputs["embeddings " + std::to_string(micro)] = e.value();
                bf::backward(bf::mean(bf::square(e)));
            }
            bf::StateDict all = all_of(*net);
            all.merge(outputs);
            return all;
        };
        const bf::StateDict plain = run(false);
        EXPECT_TRUE(plain.count("grad layer1.0.conv1.weight"));
        EXPECT_TRUE(same_bits(plain, run(true)));
    }
}

TEST(ActivationCheckpointing, TakesLessMemory) {
    const int threads = bf::cpu_pool().threads();
    bf::cpu_pool().resize(1);  // scratch memory of tasks that happen to run together would count
    struct Bytes {
        std::size_t kept, peak;
    };
    const auto measure = [](bool on) -> Bytes {
        bf::IResNet net({.blocks = {8, 8, 2, 2},
                         .channels = {16, 32, 64, 128},
                         .stem = 16,
                         .embedding_size = 8,
                         .image_size = 64,
                         .activation_checkpointing = on});
        const auto loss = [&](std::int64_t n) {
            return bf::mean(bf::square(net(Var(images(n, 64, bf::DType::f32, 1)))));
        };
        bf::backward(loss(2));
        const auto base = bf::cpu_allocator().stats().in_use;  // parameters and gradients
        bf::cpu_allocator().reset_peak();
        const Var y = loss(8);
        const auto kept = bf::cpu_allocator().stats().in_use - base;
        bf::backward(y);
        return {kept, bf::cpu_allocator().stats().peak - base};
    };
    const Bytes plain = measure(false), on = measure(true);
    bf::cpu_pool().resize(threads);
    EXPECT_LT(on.kept, plain.kept * 2 / 5) << plain.kept;
    EXPECT_LT(on.peak, plain.peak * 2 / 3) << plain.peak;
}

/// One step of a network on the device, computed or captured and launched, then everything that it left.
bf::StateDict step_on_device(bool on, bool captured) {
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 32,
                                                   .image_size = 32,
                                                   .dropout = 0.4,
                                                   .activation_checkpointing = on,
                                                   .device = test_device});
    const Var x(images(4, 32, bf::DType::f32, 1).to(test_device));
    const auto step = [&] {
        for (const auto& p : net->parameters()) p.var.zero_grad();
        bf::backward(bf::mean(bf::square((*net)(x))));
    };
    step();  // plans are made, memory is there
    if (!captured) {
        step();
        return all_of(*net);
    }
    const bf::DeviceGraph graph(test_device, step);
    graph.launch();
    return all_of(*net);
}

class GpuActivationCheckpointing : public OnDevice {};

TEST_F(GpuActivationCheckpointing, GivesTheSameBitsAlsoInAGraph) {
    const bf::StateDict plain = step_on_device(false, false);
    EXPECT_TRUE(same_bits(plain, step_on_device(true, false)));
    EXPECT_TRUE(same_bits(plain, step_on_device(true, true)));
}

/// Two batch norms, of which one may be frozen, dropout, and a linear layer; each run's modes are looked at.
struct Segment : bf::Module {
    explicit Segment(bf::Init& init) {
        bn1 = add_child("bn1", std::make_shared<bf::BatchNorm>(bf::BatchNormOptions{.channels = 6}, init));
        dropout = add_child("dropout", std::make_shared<bf::Dropout>(0.5, 3));
        fc = add_child("fc", std::make_shared<bf::Linear>(bf::LinearOptions{.in = 6, .out = 6}, init));
        bn2 = add_child("bn2", std::make_shared<bf::BatchNorm>(bf::BatchNormOptions{.channels = 6}, init));
    }
    Var forward(const Var& x) override {
        if (fails && bf::recomputing()) throw std::runtime_error("no");
        return (*bn2)((*fc)((*dropout)((*bn1)(x))));
    }
    bool fails = false;
    std::shared_ptr<bf::BatchNorm> bn1, bn2;
    std::shared_ptr<bf::Dropout> dropout;
    std::shared_ptr<bf::Linear> fc;
};

/// Forward in a mix of modes at step 5, then whatever `between` does, then backward.
template <class F>
bf::StateDict forward_and_backward(bool recomputed, const std::shared_ptr<Segment>& net, F&& between) {
    bf::Init init(9);
    const Var x(init.normal({12, 6}, 1));
    net->train();
    net->bn1->eval();
    net->set_step(5);
    const Var loss = bf::mean(bf::square(bf::square(recomputed ? bf::recompute(net, x) : (*net)(x))));
    between();
    bf::backward(loss);
    return all_of(*net);
}

std::shared_ptr<Segment> segment() {
    bf::Init init(4);
    return std::make_shared<Segment>(init);
}

TEST(RecomputeModule, RunsAgainInTheModesAndAtTheStepOfTheForwardPass) {
    const auto plain = segment(), net = segment();
    const bf::StateDict want = forward_and_backward(false, plain, [] {});
    const bf::StateDict got = forward_and_backward(true, net, [&] {
        net->eval();
        net->bn1->train();
        net->set_step(77);
    });
    EXPECT_TRUE(same_bits(want, got));
    EXPECT_TRUE(want.count("grad bn1.weight"));
    // and leaves them as the caller set them since
    EXPECT_FALSE(net->training() || net->bn2->training() || net->dropout->training());
    EXPECT_TRUE(net->bn1->training());
    EXPECT_EQ(net->dropout->step(), 77U);
    EXPECT_NE(want.at("bn2.running_mean").data<float>()[0], 0);  // moved, once
    EXPECT_EQ(want.at("bn1.running_mean").data<float>()[0], 0);
}

TEST(RecomputeModule, AFailedSecondRunLeavesTheModuleUsable) {
    const auto plain = segment(), net = segment();
    net->fails = true;
    EXPECT_THROW(forward_and_backward(true, net,
                                      [&] {
                                          net->eval();
                                          net->set_step(77);
                                      }),
                 std::runtime_error);
    EXPECT_FALSE(net->training() || net->fc->training());
    EXPECT_EQ(net->fc->step(), 77U);
    for (const auto& p : net->parameters()) EXPECT_FALSE(p.var.grad().defined()) << p.name;
    net->fails = false;
    forward_and_backward(false, plain, [] {});  // its statistics have moved once, too
    for (const auto& p : plain->parameters()) p.var.zero_grad();
    EXPECT_TRUE(same_bits(forward_and_backward(false, plain, [] {}), forward_and_backward(true, net, [] {})));
}

TEST(RecomputeModule, TheGraphKeepsTheModule) {
    auto net = segment();
    const std::weak_ptr<Segment> alive = net;
    Var x = Var::leaf(Tensor::from<float>({1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 0}, {2, 6}));
    Var loss = bf::mean(bf::square(bf::recompute(net, x)));
    net.reset();
    EXPECT_FALSE(alive.expired());
    bf::backward(loss);
    EXPECT_TRUE(x.grad().defined());
    EXPECT_TRUE(alive.expired());
}

}  // namespace
