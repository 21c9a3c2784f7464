// MobileFaceNet, ResNet-50 and the registry of networks. Golden values and names: network_golden.py (PyTorch).
#include "bf/models/network.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "bf/ops/pointwise.hpp"
#include "bf/ops/reduce.hpp"
#include "device.hpp"
#include "golden.hpp"

namespace {

using bf::DType;
using bf::Tensor;
using bf::Var;

/// The rule of network_golden.py for images and factors.
Tensor by_rule(const bf::Shape& shape, DType dtype) {
    const Tensor t = Tensor::empty(shape, {.dtype = dtype});
    bf::visit_real(dtype, "test", [&]<class T>() {
        std::uint32_t i = 0;
        for (T& v : t.span<T>()) {
            v = static_cast<T>((static_cast<double>((i * i * 2654435761u) >> 28) - 7.5) / 4);
            ++i;
        }
    });
    return t;
}

std::shared_ptr<bf::Module> tiny(const std::string& name, DType dtype, bool fused, bool checkpointing) {
    if (name == "resnet")
        return std::make_shared<bf::ResNet>(bf::ResNetOptions{.blocks = {2, 1, 1, 1},
                                                              .width = 1,
                                                              .embedding_size = 3,
                                                              .image_size = 48,
                                                              .dtype = dtype,
                                                              .activation_checkpointing = checkpointing,
                                                              .fused = fused});
    return std::make_shared<bf::MobileFaceNet>(bf::MobileFaceNetOptions{.blocks = {1, 2, 1, 1},
                                                                        .width = 2,
                                                                        .embedding_size = 3,
                                                                        .image_size = 48,
                                                                        .dtype = dtype,
                                                                        .activation_checkpointing = checkpointing,
                                                                        .fused = fused});
}

/// Largest difference, relative to the largest value of the array or to `floor` where that is larger.
double difference(const Tensor& got, const std::vector<double>& want, double floor) {
    EXPECT_EQ(static_cast<std::size_t>(got.numel()), want.size());
    double largest = floor, off = 0;
    for (const double w : want) largest = std::max(largest, std::abs(w));
    bf::visit_real(got.dtype(), "test", [&]<class T>() {
        for (std::size_t i = 0; i < want.size(); ++i)
            off = std::max(off, std::abs(static_cast<double>(got.data<T>()[i]) - want[i]));
    });
    return off / largest;
}

struct Way {
    const char* network;
    DType dtype;
    bool fused, checkpointing;
};
class NetworkGolden : public ::testing::TestWithParam<Way> {};

// The file has 13 digits. In f32 gradients pass through batch norms over few values, which cost digits.
TEST_P(NetworkGolden, ForwardPassesGradientsAndStatistics) {
    const Way way = GetParam();
    const Golden golden(std::string(BF_TEST_DIR) + "/models/" + way.network + "_golden.txt");
    const bool wide = way.dtype == DType::f64;
    const auto net = tiny(way.network, way.dtype, way.fused, way.checkpointing);
    bf::StateDict state;
    for (const auto& [name, tensor] : net->state()) state[name] = golden.tensor(name, tensor.shape(), way.dtype);
    net->load_state(state);
    const Var x(by_rule({4, 3, 48, 48}, way.dtype));
    net->eval();
    EXPECT_LT(difference((*net)(x).value(), golden["eval"], 0), wide ? 1e-11 : 1e-5);
    net->train();
    const Var e = (*net)(x);
    EXPECT_LT(difference(e.value(), golden["train"], 0), wide ? 1e-11 : 1e-4);
    bf::backward(bf::sum(bf::mul(e, Var(by_rule({4, 3}, way.dtype)))));
    double largest = 0;
    for (const auto& p : net->parameters())
        for (const double g : golden["gradient." + p.name]) largest = std::max(largest, std::abs(g));
    for (const auto& p : net->parameters())
        EXPECT_LT(difference(p.var.grad(), golden["gradient." + p.name], 1e-3 * largest), wide ? 1e-9 : 5e-3) << p.name;
    for (const auto& [name, buffer] : net->buffers())
        EXPECT_LT(difference(buffer, golden["after." + name], 0), wide ? 1e-11 : 1e-5) << name;
}

INSTANTIATE_TEST_SUITE_P(
    Ways, NetworkGolden,
    ::testing::Values(Way{"mobilefacenet", DType::f64, true, false}, Way{"mobilefacenet", DType::f64, false, true},
                      Way{"mobilefacenet", DType::f32, true, false}, Way{"resnet", DType::f64, true, false},
                      Way{"resnet", DType::f64, false, true}, Way{"resnet", DType::f32, true, false}),
    [](const auto& row) {
        return std::string(row.param.network) + "_" + bf::name_of(row.param.dtype) +
               (row.param.fused ? "" : "_not_fused_checkpointed");
    });

class GpuNetwork : public OnDevice {};

std::shared_ptr<bf::Module> narrow(const std::string& name, bf::Device device, DType compute) {
    const bool checkpointing = compute == DType::bf16;
    if (name == "resnet")
        return std::make_shared<bf::ResNet>(bf::ResNetOptions{.blocks = {2, 1, 1, 1},
                                                              .width = 8,
                                                              .embedding_size = 16,
                                                              .image_size = 32,
                                                              .compute = compute,
                                                              .activation_checkpointing = checkpointing,
                                                              .device = device});
    return std::make_shared<bf::MobileFaceNet>(bf::MobileFaceNetOptions{.blocks = {1, 1, 1, 1},
                                                                        .width = 8,
                                                                        .embedding_size = 16,
                                                                        .image_size = 32,
                                                                        .compute = compute,
                                                                        .activation_checkpointing = checkpointing,
                                                                        .device = device});
}

// Compared in evaluation mode: in training mode batch norms over the few values of a small batch blow rounding up.
// bf16 has 8 bits: each activation is off by up to 2^-9 of its size.
TEST_F(GpuNetwork, EmbedsAndTrainsOnADeviceAsOnTheCpu) {
    const Tensor images = bf::Init(3).normal({6, 3, 32, 32}, 1);
    for (const std::string name : {"mobilefacenet", "resnet"}) {
        const auto embedded = [&](bf::Device device, DType compute) {
            const auto net = narrow(name, device, compute);
            net->eval();
            const Var x(images.to(device));
            const Tensor e = (*net)(x).value();
            EXPECT_EQ(e.dtype(), DType::f32);
            net->train();
            bf::backward(bf::mean(bf::square((*net)(x))));
            for (const auto& p : net->parameters()) EXPECT_TRUE(p.var.grad().defined()) << p.name;
            const auto values = e.to(bf::cpu_device).clone();
            const auto span = values.span<float>();
            return std::vector<double>(span.begin(), span.end());
        };
        const std::vector<double> want = embedded(bf::cpu_device, DType::f32);
        double largest = 0;
        for (const double w : want) largest = std::max(largest, std::abs(w));
        for (const DType compute : {DType::f32, DType::bf16}) {
            const std::vector<double> got = embedded(test_device, compute);
            for (std::size_t i = 0; i < want.size(); ++i)
                EXPECT_NEAR(got[i], want[i], (compute == DType::f32 ? 1e-5 : 0.03) * largest) << name;
        }
    }
}

// Reference networks-and-recipes D3 for mbf, torchvision's documentation for ResNet-50 (25,557,032; 4.09 GMACs).
TEST(Network, ParametersMultiplyAccumulatesAndNamesArePublished) {
    struct Sizes {
        std::int64_t parameters;
        double giga_macs;
    };
    const std::map<std::string, Sizes> published{{"mobilefacenet", {2059520, 0.4375}},
                                                 {"mobilefacenet_large", {6314880, 1.8165}},
                                                 {"resnet50", {25557032, 4.0892}}};
    std::map<std::string, std::map<std::string, std::string>> names;  // network, tensor, shape
    std::ifstream in(std::string(BF_TEST_DIR) + "/models/network_names.txt");
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string network, tensor;
        words >> network >> tensor;
        bf::Shape shape;
        for (std::int64_t n; words >> n;) shape.push_back(n);
        names[network][tensor] = shape.str();
    }
    for (const auto& [name, want] : published) {
        const bf::NetworkOptions options{.embedding_size = name == "resnet50" ? 1000 : 512};
        const auto net = bf::make_network(name, options);
        EXPECT_EQ(net->parameter_count(), want.parameters) << name;
        EXPECT_NEAR(static_cast<double>(bf::network_macs(name, options)) * 1e-9, want.giga_macs, 0.00005) << name;
        std::map<std::string, std::string> got;
        for (const auto& [tensor, value] : net->state()) got[tensor] = value.shape().str();
        EXPECT_EQ(got, names[name]) << name;
    }
}

TEST(Network, TheRegistryKnowsEachNetworkBeforeItIsMade) {
    EXPECT_EQ(bf::network_facts("mbf").name, "mobilefacenet");
    EXPECT_EQ(bf::network_facts("resnet50").input, bf::imagenet_input());
    EXPECT_EQ(bf::network_facts("r100").input, bf::InputFormat{});
    for (const std::string& name : bf::network_names()) {
        if (name[0] == 'r' && name.size() <= 4) continue;  // iresnet_small stands for r18 to r200
        const bf::NetworkOptions options{.embedding_size = 6, .image_size = 32};
        const auto net = bf::make_network(name, options);
        const bf::NetworkHead head = bf::network_head(name, options);
        EXPECT_EQ(net->state().at(head.name).shape(), head.shape) << name;
    }
    EXPECT_THROW(bf::make_network("r1000"), bf::Error);
    EXPECT_THROW(bf::make_network(""), bf::Error);
    EXPECT_THROW(bf::network_head("mbf", {.image_size = 50}), bf::Error);
    EXPECT_THROW(bf::network_macs("resnet50", {.image_size = 16}), bf::Error);
}

TEST(Network, AnInputFormatIsReadBackToTheBit) {
    for (const bool bgr : {false, true}) {
        bf::InputFormat f = bf::imagenet_input();
        f.bgr = bgr;
        EXPECT_EQ(bf::parse_input_format(bf::to_text(f), "m"), f) << bf::to_text(f);
    }
    EXPECT_EQ(bf::to_text({}), "RGB, x * 0.007843138 0.007843138 0.007843138 + -1 -1 -1");
    EXPECT_EQ(bf::parse_input_format("RGB, (x / 255 - 0.5) / 0.5", "m"), bf::InputFormat{});
    for (const char* wrong : {"", "RGB", "GBR, x * 1 1 1 + 0 0 0", "RGB, x * 1 1 + 0 0 0", "RGB, x * 1 1 1 + 0 0 nan",
                              "RGB, x * 1 1 1 + 0 0 0 ", "BGR, x * 1 1 1 - 0 0 0", "RGB, x * 1 1 1e99 + 0 0 0"})
        EXPECT_THROW(bf::parse_input_format(wrong, "m"), bf::Error) << wrong;
}

}  // namespace
