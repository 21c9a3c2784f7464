// bf export: what it writes, and what it refuses before it works.
#include "bf/data/input_format.hpp"
#include "bf/io/npy.hpp"
#include "bf/io/onnx.hpp"
#include "bf/models/iresnet.hpp"
#include "program.hpp"

namespace {

class Export : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        net = bf::iresnet("iresnet_small", {.embedding_size = 8, .image_size = 16});
        bf::save_safetensors(model(), net->state(),
                             {{"bf.network", "iresnet_small"}, {"bf.embedding_size", "8"}, {"bf.image_size", "16"}});
    }
    std::string model() const { return (root / "m.safetensors").string(); }
    std::string at(const std::string& name) const { return (root / name).string(); }
    std::shared_ptr<bf::IResNet> net;
};

bool equal(const bf::Tensor& a, const bf::Tensor& b) {
    return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

TEST_F(Export, WritesSeveralFormatsAtOnceWithTheSameTensors) {
    const Outcome o = ::run("export " + model() + " --onnx " + at("x.onnx") + " --opset 13 --safetensors " +
                            at("x.safetensors") + " --npy " + at("npy") + " --check-data " + at("x"));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "x.onnx: opset 13, 43 nodes, 96 initialisers, ")) << o.output;
    EXPECT_TRUE(has(o.output, "\"input\" [batch, 3, 16, 16] f32, RGB, x *")) << o.output;
    EXPECT_TRUE(has(o.output, "\"embedding\" [batch, 8] f32")) << o.output;
    EXPECT_TRUE(has(o.output, "python3 tools/check_export.py " + at("x.onnx") + " --data " + at("x"))) << o.output;

    const bf::SafeTensors onnx = bf::load_onnx(at("x.onnx")), safe = bf::load_safetensors(at("x.safetensors"));
    const bf::StateDict state = net->state();
    EXPECT_EQ(safe.tensors.size(), state.size());
    for (const auto& [name, t] : state) {
        EXPECT_TRUE(equal(safe.tensors.at(name), t)) << name;
        EXPECT_TRUE(equal(bf::load_npy(root / "npy" / (name + ".npy")), t)) << name;
        EXPECT_TRUE(equal(onnx.tensors.at(name).reshape(t.shape()), t)) << name;
    }
    for (const auto& metadata : {safe.metadata, onnx.metadata}) {
        EXPECT_EQ(metadata.at("bf.network"), "iresnet_small");
        EXPECT_EQ(metadata.at("bf.input"), bf::to_text({}));
    }
    EXPECT_EQ(onnx.metadata.at("input_mean"), "127.5");
    EXPECT_EQ(onnx.metadata.at("input_std"), "127.5");
    EXPECT_EQ(onnx.metadata.at("input_color"), "RGB");
    net->eval();
    const bf::Tensor x = bf::load_npy(at("x.input.npy"));
    EXPECT_EQ(x.shape(), (bf::Shape{3, 3, 16, 16}));
    EXPECT_TRUE(equal(bf::load_npy(at("x.embedding.npy")), (*net)(bf::Var(x)).value()));

    // what was written is a model again
    EXPECT_EQ(::run("export " + at("x.safetensors") + " --onnx " + at("again.onnx") + " --opset 13").code, 0);
    EXPECT_EQ(read(root / "again.onnx"), read(root / "x.onnx"));
}

TEST_F(Export, PixelsGoIntoTheGraphOnRequest) {
    const Outcome o =
        ::run("export " + model() + " --onnx " + at("x.onnx") + " --with-preprocessing u8 --check-data " + at("x"));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "u8, RGB pixels 0..255")) << o.output;
    const bf::OnnxModel m = bf::read_onnx(at("x.onnx"));
    EXPECT_EQ(m.inputs[0].type, bf::OnnxType::u8);
    EXPECT_EQ(m.nodes[0].op, "Cast");
    EXPECT_EQ(m.nodes[1].name, "Sub_mean");
    EXPECT_EQ(m.nodes[2].name, "Mul_scale");
    EXPECT_EQ(m.metadata.at("input_mean"), "0");
    EXPECT_EQ(m.metadata.at("input_std"), "1");
    // the embeddings beside it are those of the normalised pixels
    const bf::Tensor pixels = bf::load_npy(at("x.input.npy"));
    ASSERT_EQ(pixels.dtype(), bf::DType::u8);
    bf::Tensor x = bf::Tensor::empty(pixels.shape());
    for (std::int64_t i = 0; i < x.numel(); ++i)
        x.data<float>()[i] = static_cast<float>(pixels.data<std::uint8_t>()[i]) * (2.0f / 255) - 1;
    net->eval();
    const bf::Tensor got = bf::load_npy(at("x.embedding.npy")), want = (*net)(bf::Var(x)).value();
    for (std::int64_t i = 0; i < want.numel(); ++i) EXPECT_NEAR(got.data<float>()[i], want.data<float>()[i], 1e-3);
}

TEST_F(Export, WrongArgumentsAreFoundBeforeTheWork) {
    const auto expect = [](const std::string& rest, int code, const std::string& part) {
        const Outcome o = ::run("export " + rest);
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(model(), 2, "nothing to write; want --onnx FILE");
    expect(model() + " --npy " + at("n") + " --with-preprocessing u8", 2, "got no --onnx FILE");
    expect(model() + " --onnx " + at("no/x.onnx"), 2, "hint: mkdir -p " + at("no"));
    expect(model() + " --onnx " + root.string(), 2, "is a folder");
    expect(model() + " --safetensors " + model(), 2, "is the model itself");
    expect(model() + " --npy " + model(), 2, model());
    expect(model() + " --onnx " + at("x.onnx") + " --opset 12", 2, "--opset");
    expect(at("none") + " --onnx " + at("x.onnx"), 3, "does the file exist");
    expect(at("tiny.toml") + " --onnx " + at("x.onnx"), 3, "tiny.toml");
    EXPECT_FALSE(fs::exists(at("x.onnx")));
}

}  // namespace
