// Networks to ONNX and back, without Python: the exported graph against what the onnx package reads of it, its numbers
// against onnxruntime's (onnx_export_golden.py), and files of other programs (onnx_golden.py) against NumPy's
// embeddings.
#include "bf/nn/onnx_export.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "bf/io/onnx.hpp"
#include "bf/io/onnx_writer.hpp"
#include "bf/models/iresnet.hpp"
#include "bf/nn/onnx_match.hpp"
#include "bf/ops/pool.hpp"
#include "bf/ops/reduce.hpp"
#include "errors.hpp"
#include "golden.hpp"

namespace {

using bf::Tensor;
using bf::Var;

const std::string folder = std::string(BF_TEST_DIR) + "/models/";
#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

/// Writes a model and reads it again. With BF_KEEP_ONNX=FOLDER it stays there, for onnx_export_golden.py.
bf::OnnxModel through_a_file(const bf::OnnxModel& model, const std::string& name) {
    const char* keep = std::getenv("BF_KEEP_ONNX");
    const std::filesystem::path path =
        keep ? std::filesystem::path(keep) / name
             : std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name);
    bf::save_onnx(path, model);
    bf::OnnxModel got = bf::read_onnx(path);
    if (!keep) std::filesystem::remove(path);
    return got;
}

/// What a user may build: every op that is exported and that an IResNet does not have.
class Custom : public bf::Module {
  public:
    explicit Custom(bf::Init& init)
        : depthwise_(add_child(
              "depthwise", std::make_shared<bf::Conv2d>(bf::Conv2dLayerOptions{.in = 4, .out = 4, .groups = 4}, init))),
          fc_(add_child("fc", std::make_shared<bf::Linear>(bf::LinearOptions{.in = 4, .out = 3, .bias = false}, init))),
          mix_(add_parameter("mix", init.normal({3, 3}, 1))),
          slope_(add_parameter("slope", init.uniform({4}, 0.9), true)) {}
    Var forward(const Var& x) override {
        using namespace bf;
        Var y = relu((*depthwise_)(max_pool2d(x, {.kernel = 3, .stride = 2, .pad = 1})));
        y = avg_pool2d(y - sigmoid(y), {.kernel = 2, .stride = 1, .pad = 1});
        // operands are made in any order: those that stand first in the graph have names
        const Var bent = tanh(y), product = 0.25 * abs(y) * bent;
        y = prelu(0.75 * y + product, slope_);
        const Var below = exp(clamp(y, -0.5, 0.5));
        y = sqrt(square(y) + 1.5) / below;
        y = reshape(y, {x.shape()[0] * 2, 2, y.shape()[2], y.shape()[3]});
        y = reshape(y, {x.shape()[0], 4, y.shape()[2], y.shape()[3]});
        y = prelu(flatten(global_avg_pool(log(y))), slope_);  // the same slope of rows
        return normalize_rows(matmul((*fc_)(y), mix_));
    }

  private:
    std::shared_ptr<bf::Conv2d> depthwise_;
    std::shared_ptr<bf::Linear> fc_;
    Var mix_, slope_;
};

std::string listing(const bf::OnnxModel& m) {
    std::string out;
    const auto join = [](const auto& all, const auto& text) {
        std::string s;
        for (const auto& v : all) s += (s.empty() ? "" : ", ") + text(v);
        return s;
    };
    const auto plain = [](const std::string& s) { return s; };
    const auto number = [](auto v) { return bf::concat(v); };
    using Type = bf::OnnxAttribute::Type;
    const auto attribute = [&](const bf::OnnxAttribute& a) {
        return a.name + "=" +
               (a.type == Type::real      ? bf::concat(a.real)
                : a.type == Type::integer ? bf::concat(a.integer)
                : a.type == Type::text    ? a.text
                                          : "[" + join(a.integers, number) + "]");
    };
    for (const auto& v : m.inputs) out += "input " + v.name + " [" + join(v.shape, plain) + "]\n";
    for (const auto& n : m.nodes)
        out += n.op + " " + n.name + " (" + join(n.inputs, plain) + ") -> " + join(n.outputs, plain) + " {" +
               join(n.attributes, attribute) + "}\n";
    for (const auto& v : m.outputs) out += "output " + v.name + " [" + join(v.shape, plain) + "]\n";
    for (const auto& [name, t] : m.initialisers)
        out += name + " " + bf::name_of(t.dtype()) + " " + t.shape().str() + "\n";
    for (const auto& [key, value] : m.metadata) out += key + ": " + value + "\n";
    return bf::concat("opset ", m.opset, ", producer ", m.producer, "\n") + out;
}
std::string text_of(const std::string& name) {
    std::ifstream in(folder + name);
    return {std::istreambuf_iterator<char>(in), {}};
}

TEST(OnnxExport, AnIResNetIsTheGraphThatTheOnnxPackageReads) {
    const auto net = bf::iresnet("iresnet_small", {.embedding_size = 16, .image_size = 16});
    const bf::InputFormat bgr{.bgr = true, .scale = {0.01f, 0.02f, 0.03f}, .shift = {-1, -2, 0.5f}};
    const bf::OnnxModel m = bf::export_onnx(
        *net, {.opset = 13, .sample = {3, 16, 16}, .pixels = bgr, .bytes = true, .metadata = {{"k", "v"}}});
    EXPECT_TRUE(net->training());  // as it was
    EXPECT_EQ(listing(through_a_file(m, "iresnet_small.onnx")), text_of("onnx_iresnet_listing.txt"));
    // the numbers that onnxruntime computed with that file from bytes
    const Golden golden(folder + "onnx_iresnet_golden.txt");
    const Tensor bytes = golden.tensor("pixels", {2, 3, 256}, bf::DType::f32);
    Tensor x = Tensor::empty({2, 3, 16, 16});
    for (std::size_t i = 0; i < 2; ++i) {
        bf::Image image;
        image.width = image.height = 16;
        image.pixels.resize(3 * 256);
        for (std::size_t k = 0; k < 3 * 256; ++k)
            image.pixels[k % 256 * 3 + k / 256] = static_cast<std::uint8_t>(bytes.data<float>()[i * 768 + k]);
        std::vector<float> rows(3 * 256);
        bf::write_input(image, bgr, rows.data());
        for (std::size_t k = 0; k < 3 * 256; ++k) x.data<float>()[i * 768 + k] = rows[k % 256 * 3 + k / 256];
    }
    net->eval();
    const Tensor e = (*net)(Var(x)).value();
    const std::vector<double>& want = golden["embedding"];
    const double largest = std::abs(
        *std::max_element(want.begin(), want.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
    for (std::size_t i = 0; i < 32; ++i) EXPECT_NEAR(e.data<float>()[i], want[i], 1e-5 * largest);
}

TEST(OnnxExport, AUsersNetworkIsExportedWithoutASecondDescription) {
    bf::Init init(7);
    Custom net(init);
    const bf::OnnxModel m = bf::export_onnx(net, {.opset = 11, .sample = {4, 9, 9}, .input = "x", .output = "y"});
    EXPECT_EQ(listing(through_a_file(m, "custom.onnx")), text_of("onnx_custom_listing.txt"));
    // the numbers that onnxruntime computed with that file
    const Golden golden(folder + "onnx_custom_golden.txt");
    const Tensor y = net(Var(golden.tensor("x", {2, 4, 9, 9}, bf::DType::f32))).value();
    ASSERT_EQ(y.numel(), 6);
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(y.data<float>()[i], golden["y"][i], 2e-6);
}

TEST(OnnxExport, FusedOrNotTheGraphIsTheSame) {
    std::vector<std::string> all;
    for (const bool fused : {true, false}) {
        const auto net = bf::iresnet("iresnet_small", {.embedding_size = 8, .image_size = 16, .fused = fused});
        const bf::OnnxModel m = bf::export_onnx(*net, {.sample = {3, 16, 16}});
        std::string ops;
        for (const auto& n : m.nodes) ops += n.op + " ";
        all.push_back(ops);
    }
    EXPECT_EQ(all[0], all[1]);
    EXPECT_HAS(all[0], "Conv BatchNormalization PRelu BatchNormalization Conv");
}

/// Takes batches of two only, which cannot be seen in a graph.
class Adds : public bf::Module {
  public:
    explicit Adds(bf::Init& init) : shift_(add_buffer("shift", init.normal({2, 3}, 1))) {}
    Var forward(const Var& x) override { return bf::add(x, Var(shift_)); }

  private:
    Tensor shift_;
};
/// A module that does what it is given.
class Does : public bf::Module {
  public:
    explicit Does(std::function<Var(const Var&)> f) : f_(std::move(f)) {}
    Var forward(const Var& x) override { return f_(x); }

  private:
    std::function<Var(const Var&)> f_;
};
std::string exporting(std::function<Var(const Var&)> f, const bf::OnnxExportOptions& options = {.sample = {4, 6, 6}}) {
    Does net(std::move(f));
    return message([&] { bf::export_onnx(net, options); });
}

TEST(OnnxExport, WhatCannotBeExportedIsNamed) {
    EXPECT_HAS(exporting([](const Var& x) { return bf::mean(x, 1); }), "the op mean is not exported");
    EXPECT_HAS(exporting([](const Var& x) {
                   const Tensor c = bf::full({4}, 0.5);
                   return bf::batch_norm_train(x, Var(c), Var(c), {}, {});
               }),
               "batch_norm_train is an op of training");
    EXPECT_HAS(exporting([](const Var& x) { return bf::dropout(x, 0.5, 1, 1); }), "dropout is an op of training");
    EXPECT_HAS(exporting([](const Var& x) { return bf::relu(bf::record(x.value().clone(), {x}, nullptr)); }),
               "an op that makes [2, 4, 6, 6] f32 cpu has no name");
    EXPECT_HAS(exporting([](const Var& x) { return bf::relu(Var(x.value().clone())); }),
               "relu is a value that no op made");
    EXPECT_HAS(exporting([](const Var& x) { return bf::prelu(x, Var(bf::full({4}, 1))); }),
               "prelu: its slope [4] f32 cpu is no parameter or buffer");
    bf::Init init(1);
    Adds adds(init);
    EXPECT_HAS(message([&] { bf::export_onnx(adds, {.sample = {3}}); }),
               "with a parameter or buffer of the shape of a batch");
    EXPECT_HAS(exporting([](const Var& x) { return x; }), "gives back what it was given");
    EXPECT_HAS(exporting([](const Var& x) { return bf::reshape(x, {1, 288}); }), "does not keep the batch in front");
    EXPECT_HAS(exporting([](const Var& x) { return bf::relu(bf::cast(x, bf::DType::f64)); }), "a cast of");
    EXPECT_HAS(exporting([](const Var& x) { return bf::relu(x); }, {.sample = {4, 6, 6}, .output = "input"}),
               "the name \"input\" is taken");
    EXPECT_HAS(exporting([](const Var& x) { return bf::relu(x); }, {.sample = {4, 6, 6}, .pixels = bf::InputFormat{}}),
               "want images of 3 channels");
    EXPECT_EQ(exporting([](const Var& x) { return bf::relu(x); }), "no error");
    Does flat([](const Var& x) { return bf::prelu(x, Var(bf::full({4}, 0))); });
    EXPECT_EQ(bf::export_onnx(flat, {.sample = {4, 6, 6}}).nodes[0].op, "Relu");
}

TEST(Trace, HasTheOpsOfItsLifeInOrderAlsoThoseWithoutAGraph) {
    const Var x(bf::full({2, 3}, -1));
    std::vector<std::string> names;
    {
        const bf::Trace outer;
        const Var y = bf::relu(x);
        {
            const bf::Trace inner;
            bf::NoGrad no_grad;
            bf::add(y, y);
            ASSERT_EQ(inner.ops().size(), 1u);
            EXPECT_EQ(inner.ops()[0].name, "add");
            EXPECT_TRUE(bf::same_value(inner.ops()[0].inputs[1], y.value()));
        }
        const Var z = bf::clamp(y, 0.25, 2);
        bf::record(z.value().clone(), {z}, nullptr);
        for (const bf::TracedOp& op : outer.ops()) names.push_back(op.name);
        EXPECT_TRUE(bf::same_value(outer.ops()[1].output, z.value()));
        EXPECT_FALSE(bf::same_value(outer.ops()[1].output, y.value()));
        EXPECT_EQ(outer.ops()[1].attribute("a"), 0.25);
        EXPECT_HAS(message([&] { outer.ops()[1].attribute("c"); }), "clamp: no attribute c");
    }
    EXPECT_EQ(names, (std::vector<std::string>{"relu", "clamp", ""}));
    EXPECT_EQ(bf::Trace::current(), nullptr);
}

/// The network of iresnet_golden.txt, with fresh weights.
std::shared_ptr<bf::IResNet> golden_network(bf::IResNetOptions o = {}) {
    o.blocks = {2, 1, 1, 1};
    o.channels = {2, 3, 4, 5};
    o.stem = 2;
    o.embedding_size = 3;
    o.image_size = 32;
    return std::make_shared<bf::IResNet>(o);
}

TEST(OnnxMatch, FilesOfOtherProgramsGiveTheirEmbeddings) {
    const Golden golden(folder + "iresnet_golden.txt");
    for (const char* file : {"made_by_torch.onnx", "rewritten.onnx"}) {
        const auto net = golden_network();
        const bf::OnnxMatch match = bf::match_onnx(bf::read_onnx(folder + file), *net, {3, 32, 32}, file);
        EXPECT_FALSE(match.by_names);
        EXPECT_EQ(match.folded.size(), 15u) << file;  // the stem's, two a block, one a shortcut
        net->load_state(match.state);
        net->eval();
        const Tensor e = (*net)(Var(golden.tensor("images", {3, 3, 32, 32}, bf::DType::f32))).value();
        for (std::size_t i = 0; i < 9; ++i) EXPECT_NEAR(e.data<float>()[i], golden["eval"][i], 1e-5) << file;
        EXPECT_TRUE(match.unused.empty());
        const bool rewritten = std::string(file) == "rewritten.onnx";  // (x - 127.5) / 128 in front
        EXPECT_EQ(match.notes.size(), rewritten ? 1u : 0u);
        ASSERT_EQ(match.normalisation.has_value(), rewritten);
        for (std::size_t c = 0; rewritten && c < 3; ++c) {
            EXPECT_NEAR(match.normalisation->scale[c], 1.0 / 128, 1e-12);
            EXPECT_NEAR(match.normalisation->shift[c], -127.5 / 128, 1e-12);
        }
    }
}

TEST(OnnxMatch, OwnFilesGiveTheirWeightsToTheBit) {
    const auto net = golden_network({.seed = 3}), other = golden_network({.seed = 4});
    const bf::OnnxModel file = through_a_file(bf::export_onnx(*net, {.sample = {3, 32, 32}}), "own.onnx");
    const bf::OnnxMatch match = bf::match_onnx(file, *other, {3, 32, 32}, "own.onnx");
    EXPECT_TRUE(match.by_names);
    EXPECT_TRUE(match.unused.empty());
    other->load_state(match.state);
    for (const auto& [name, t] : net->state())
        EXPECT_EQ(std::memcmp(t.raw(), other->state().at(name).raw(), t.bytes()), 0) << name;
    // without names, by structure: the same again
    bf::OnnxModel renamed = file;
    const auto hide = [](std::string& name) {
        if (name.find('.') != std::string::npos && name.find(".out") == std::string::npos) name = "t_" + name;
    };
    for (auto& [name, t] : renamed.initialisers) hide(name);
    for (auto& n : renamed.nodes)
        for (auto& name : n.inputs) hide(name);
    const bf::OnnxMatch found = bf::match_onnx(renamed, *golden_network({.seed = 5}), {3, 32, 32}, "renamed.onnx");
    EXPECT_FALSE(found.by_names);
    EXPECT_TRUE(found.folded.empty());
    for (const auto& [name, t] : net->state())
        EXPECT_EQ(std::memcmp(t.raw(), found.state.at(name).raw(), t.bytes()), 0) << name;
}

TEST(OnnxMatch, AnotherNetworkIsRefusedWithTheLayerAtWhichTheyPart) {
    const auto net = golden_network();
    const bf::OnnxModel file = bf::read_onnx(folder + "made_by_torch.onnx");
    const auto refused = [&](const bf::OnnxModel& m, bf::Module& into, const bf::Shape& sample) {
        return message([&] { bf::match_onnx(m, into, sample, "x.onnx"); });
    };
    const auto small = bf::iresnet("iresnet_small", {.embedding_size = 3, .image_size = 32});
    EXPECT_HAS(refused(file, *small, {3, 32, 32}),
               "x.onnx: is not this network: at fc the file has node \"/fc/Gemm\" (Gemm): its weight is [3, 20], want");
    const auto with = [&](const std::string& op, const auto& change) {
        bf::OnnxModel m = file;
        for (bf::OnnxNode& n : m.nodes)
            if (n.op == op) {
                change(n);
                break;
            }
        return refused(m, *net, {3, 32, 32});
    };
    EXPECT_HAS(with("PRelu", [](bf::OnnxNode& n) { n.op = "LeakyRelu"; }),
               "at prelu the file has node \"/prelu/PRelu\" (LeakyRelu): want PRelu");
    EXPECT_HAS(with("Conv", [](bf::OnnxNode& n) { n.attributes.clear(); }), "other pads");
    EXPECT_HAS(with("Conv", [](bf::OnnxNode& n) { n.inputs[1] = "onnx::Conv_200"; }),
               "its weight is [2, 2, 3, 3], want");
    EXPECT_HAS(with("Conv", [](bf::OnnxNode& n) { n.inputs.clear(); }), "at bn1 the file has node");
    EXPECT_HAS(with("PRelu", [](bf::OnnxNode& n) { n.inputs.resize(1); }), "its weights are not tensors of the file");
    EXPECT_HAS(with("Gemm", [](bf::OnnxNode& n) { n.attributes.clear(); }), "its weight is [3, 20], want [out, in]");
    EXPECT_HAS(with("Conv", [](bf::OnnxNode& n) { n.inputs[0] = n.outputs[0]; }), "at the input the file has node");
    bf::OnnxModel circle = file;
    circle.nodes.push_back({"Identity", "i", {"end"}, {"end"}, {}});
    circle.outputs[0].name = "end";
    EXPECT_HAS(refused(circle, *net, {3, 32, 32}), "runs in a circle");
    circle.outputs.clear();
    EXPECT_HAS(refused(circle, *net, {3, 32, 32}), "no output");
}

TEST(OnnxMatch, AnotherEpsilonGoesIntoTheVariance) {
    const auto net = golden_network();
    bf::OnnxModel file = bf::read_onnx(folder + "made_by_torch.onnx");
    for (bf::OnnxNode& n : file.nodes)
        if (n.op == "BatchNormalization")
            for (auto& a : n.attributes)
                if (a.name == "epsilon") a.real = 0.25f;
    const auto match = bf::match_onnx(file, *net, {3, 32, 32}, "x.onnx");
    const Golden golden(folder + "iresnet_golden.txt");
    EXPECT_NEAR(match.state.at("bn2.running_var").data<float>()[0], golden["bn2.running_var"][0] + 0.25 - 1e-5, 1e-6);
}

}  // namespace
