// bf import as a user meets it: files of PyTorch, NumPy and safetensors become models, and what does not fit is listed.
#include "bf/io/npz.hpp"
#include "bf/io/onnx_writer.hpp"
#include "bf/nn/onnx_export.hpp"
#include "io/craft.hpp"
#include "model.hpp"
#include "program.hpp"

namespace {

using bf::StateDict;
using bf::Tensor;

class Import : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        state = bf::make_network("iresnet_small", {.embedding_size = 16, .image_size = 32, .seed = 5})->state();
    }
    std::string path(const std::string& name) const { return (root / name).string(); }
    Outcome import(const std::string& name, const std::string& rest = "") const {
        return run("import " + path(name) + " --out " + path("out.safetensors") + " " + rest);
    }
    /// A .pth of a training loop: {"epoch": 3, "state_dict": {...}}.
    void write_pth(const std::string& name, const StateDict& tensors, const std::string& prefix) const {
        std::string dict;
        std::vector<craft::ZipItem> items;
        for (const auto& [key, t] : tensors) {
            std::vector<std::int64_t> size(t.shape().begin(), t.shape().end()), stride(size.size(), 1);
            for (std::size_t i = size.size(); i-- > 1;) stride[i - 1] = stride[i] * size[i];
            const std::string storage = std::to_string(items.size());
            dict += craft::text(prefix + key) +
                    craft::tensor({.size = size,
                                   .stride = stride,
                                   .elements = t.numel(),
                                   .key = storage,
                                   .type = t.dtype() == bf::DType::i64 ? "LongStorage" : "FloatStorage"});
            items.push_back(
                {.name = "best/data/" + storage, .content = {static_cast<const char*>(t.host()), t.bytes()}});
        }
        items.push_back({.name = "best/data.pkl",
                         .content = "\x80\x02}(" + craft::text("epoch") + "K\x03" + craft::text("state_dict") +
                                    "ccollections\nOrderedDict\n)R(" + dict + "uu."});
        std::ofstream(root / name, std::ios::binary) << craft::zip(items);
    }
    /// The model that was written is the network of `state`.
    void expect_imported() const {
        const bf::program::Model model = bf::program::load_model(root / "out.safetensors");
        EXPECT_EQ(model.network, "iresnet_small");
        EXPECT_EQ(model.embedding_size, 16);
        EXPECT_EQ(model.image_size, 32);
        for (const auto& [name, t] : model.net->state())
            EXPECT_EQ(std::memcmp(t.host(), state.at(name).host(), t.bytes()), 0) << name;
        fs::remove(root / "out.safetensors");
    }
    StateDict state;
};

TEST_F(Import, EveryKindOfFileGivesTheSameModel) {
    StateDict with_counters = state;
    with_counters["bn1.num_batches_tracked"] = Tensor::from(std::vector<std::int64_t>{7}, {});
    write_pth("a.pth.tar", with_counters, "module.backbone.");
    Outcome o = import("a.pth.tar");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "PyTorch file")) << o.output;
    EXPECT_TRUE(has(o.output, "prefix      module.backbone.")) << o.output;
    EXPECT_TRUE(has(o.output, "iresnet_small (by names and sizes), 16-d, images 32 x 32")) << o.output;
    EXPECT_TRUE(has(o.output, "1 num_batches_tracked")) << o.output;
    expect_imported();

    bf::save_npz(root / "a.onnx", state);  // the content tells what it is
    o = import("a.onnx", "--network iresnet_small --json");
    EXPECT_EQ(o.code, 0) << o.output;
    const bf::Json report = bf::parse_json(o.output, "import");
    EXPECT_EQ(report.string_or("format", ""), "NumPy archive");
    EXPECT_EQ(report.number_or("matched", 0), static_cast<double>(state.size()));
    EXPECT_TRUE(report.find("missing")->array.empty());
    expect_imported();

    bf::save_safetensors(root / "a.bin", state);
    o = import("a.bin", "--input bgr");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(bf::program::load_model(root / "out.safetensors").input.bgr);
    fs::rename(root / "out.safetensors", root / "again.safetensors");
    EXPECT_EQ(import("again.safetensors").code, 0);  // a file of bf says itself what pixels it wants
    EXPECT_TRUE(bf::program::load_model(root / "out.safetensors").input.bgr);
    expect_imported();

    // the last linear of a ResNet does not tell the size of the images, but its file does
    const auto resnet = bf::make_network("resnet50", {.embedding_size = 4, .image_size = 64});
    bf::save_safetensors(root / "r.safetensors", resnet->state(),
                         {{"bf.network", "resnet50"}, {"bf.image_size", "64"}});
    o = import("r.safetensors");
    EXPECT_TRUE(has(o.output, "4-d, images 64 x 64")) << o.output;
}

TEST_F(Import, OnnxByNamesAndByStructure) {
    const auto net = bf::make_network("iresnet_small", {.embedding_size = 16, .image_size = 32});
    net->load_state(state);
    net->eval();
    bf::OnnxModel graph = bf::export_onnx(*net, {.sample = {3, 32, 32}});
    bf::save_onnx(root / "own.onnx", graph);
    Outcome o = import("own.onnx");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "ONNX file") && has(o.output, "found       by names")) << o.output;
    expect_imported();

    const auto renamed = [](const std::string& name) { return "onnx::" + name; };
    std::set<std::string> tensors;
    for (auto& [name, t] : graph.initialisers) {
        tensors.insert(name);
        name = renamed(name);
    }
    for (bf::OnnxNode& node : graph.nodes)
        for (std::string& input : node.inputs)
            if (tensors.count(input)) input = renamed(input);
    bf::save_onnx(root / "other.onnx", graph);
    o = import("other.onnx");
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_TRUE(has(o.output, "hint: --network NAME looks for its layers")) << o.output;
    o = import("other.onnx", "--network iresnet_small");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "found       by structure")) << o.output;
    expect_imported();
}

TEST_F(Import, TheNormalisationOfAnOnnxFileIsTakenOver) {
    const auto net = bf::make_network("iresnet_small", {.embedding_size = 16, .image_size = 32});
    net->load_state(state);
    net->eval();
    const bf::OnnxModel plain = bf::export_onnx(*net, {.sample = {3, 32, 32}});
    // in front: (mean - x) / deviation, one value a channel; `unit` 255 where the graph takes 0..1
    const auto with = [&](float unit, const std::string& last) {
        bf::OnnxModel graph = plain;
        graph.metadata.clear();
        Tensor mean = Tensor::empty({3, 1, 1}), deviation = bf::full({1}, -64.0 / unit, bf::DType::f32);
        for (int c = 0; c < 3; ++c) mean.data<float>()[c] = static_cast<float>(120 + c) / unit;
        graph.initialisers.emplace_back("mean", mean);
        graph.initialisers.emplace_back("deviation", deviation);
        for (bf::OnnxNode& node : graph.nodes)
            for (std::string& input : node.inputs)
                if (input == "input") input = "normalised";
        graph.nodes.insert(
            graph.nodes.begin(),
            {{.op = "Sub", .name = "centre", .inputs = {"mean", "input"}, .outputs = {"centred"}},
             {.op = last, .name = "scale", .inputs = {"centred", "deviation"}, .outputs = {"normalised"}}});
        bf::save_onnx(root / "own.onnx", graph);
    };
    for (const float unit : {1.0f, 255.0f}) {
        with(unit, "Div");
        const Outcome o = import("own.onnx");
        EXPECT_EQ(o.code, 0) << o.output;
        EXPECT_TRUE(has(o.output, "the file normalises its input itself: Sub \"centre\", Div \"scale\"")) << o.output;
        EXPECT_TRUE(has(o.output, "unexpected  0\n")) << o.output;
        const auto input = bf::load_safetensors(root / "out.safetensors").metadata.at("bf.input");
        const bf::InputFormat format = bf::parse_input_format(input, "");
        EXPECT_FLOAT_EQ(format.scale[1], 1.0f / 64);
        EXPECT_FLOAT_EQ(format.shift[2], -122.0f / 64);
        expect_imported();
    }
    with(1, "Add");
    EXPECT_EQ(import("own.onnx", "--input bgr").code, 0);
    EXPECT_EQ(bf::load_safetensors(root / "out.safetensors").metadata.at("bf.input"), bf::to_text({.bgr = true}));
    with(1, "Pow");
    const Outcome o = import("own.onnx");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "in a way that no input format has: Sub \"centre\" and more")) << o.output;
    EXPECT_TRUE(has(o.output, "unexpected  1:\n  deviation")) << o.output;
    EXPECT_EQ(bf::load_safetensors(root / "out.safetensors").metadata.at("bf.input"), bf::to_text({}));
}

TEST_F(Import, WhatDoesNotFitIsListedAndStops) {
    StateDict other = state;
    other.erase("layer2.0.conv1.weight");
    other["head.weight"] = Tensor::zeros({10, 16});
    other["features.weight"] = Tensor::zeros({17});
    bf::save_safetensors(root / "a.safetensors", other);
    Outcome o = import("a.safetensors");
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_TRUE(has(o.output, "missing     1:\n  layer2.0.conv1.weight [64, 32, 3, 3]")) << o.output;
    EXPECT_TRUE(has(o.output, "mismatched  1:\n  features.weight: got [17] f32, want [16] f32")) << o.output;
    EXPECT_TRUE(has(o.output, "unexpected  1:\n  head.weight [10, 16]")) << o.output;
    EXPECT_TRUE(has(o.output, "--allow-missing")) << o.output;
    EXPECT_FALSE(fs::exists(root / "out.safetensors"));
    o = import("a.safetensors", "--allow-missing --json");
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_EQ(bf::parse_json(o.output, "import").find("missing")->array.size(), 1u);
    EXPECT_EQ(bf::program::load_model(root / "out.safetensors").network, "iresnet_small");
    fs::remove(root / "out.safetensors");

    // a named network of which little is there: under which prefix is found all the same
    StateDict few;
    for (const char* name : {"conv1.weight", "bn1.weight"}) few[std::string("net.") + name] = state.at(name);
    bf::save_safetensors(root / "few.safetensors", few);
    EXPECT_TRUE(has(import("few.safetensors").output, "names of no known network"));
    o = import("few.safetensors", "--network iresnet_small");
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_TRUE(has(o.output, "matched     2 of")) << o.output;

    StateDict twice;
    for (const auto& [name, t] : state) twice["student." + name] = twice["teacher." + name] = t;
    bf::save_safetensors(root / "twice.safetensors", twice);
    o = import("twice.safetensors");
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_TRUE(has(o.output, "hint: --prefix student.")) << o.output;
    EXPECT_EQ(import("twice.safetensors", "--prefix teacher.").code, 0);
    expect_imported();

    state["bn1.bias"].data<float>()[3] = std::nanf("");
    bf::save_safetensors(root / "nan.safetensors", state);
    o = import("nan.safetensors");
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_TRUE(has(o.output, "bn1.bias: holds nan")) << o.output;
}

TEST_F(Import, WrongFilesAndArguments) {
    const auto write = [&](const std::string& name, const std::string& content) {
        std::ofstream(root / name, std::ios::binary) << content;
    };
    const auto expect = [&](int code, const Outcome& o, const std::string& part) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
        EXPECT_FALSE(fs::exists(root / "out.safetensors"));
    };
    write("evil.pth", craft::pth("\x80\x02"
                                 "cos\nsystem\n" +
                                 craft::text("touch " + path("done")) + "\x85R."));
    expect(3, import("evil.pth"), "names os system, which is not among what is read here, and nothing is executed");
    EXPECT_FALSE(fs::exists(root / "done"));
    write("graph.onnx", std::string("\x08\x07\x12\x07pytorch") + std::string(20, 'x'));
    expect(3, import("graph.onnx"), "graph.onnx: ");
    write("a.params", craft::little(0x112, 8) + std::string(20, 'x'));
    expect(3, import("a.params"), "MXNet");
    write("notes.pth", "these are no weights");
    expect(3, import("notes.pth"), "is no .pth, .pt, .safetensors, .onnx or .npz");
    write("empty.pth", "");
    expect(3, import("empty.pth"), "got 0 bytes");
    expect(3, import("none.pth"), "does the file exist?");
    expect(3, run("import " + root.string() + " --out " + path("out.safetensors")), "is not a file");
    expect(2, import("notes.pth", "--network r51"), "unknown name; got r51");
    expect(2, import("notes.pth", "--input yuv"), "--input");
    expect(2, run("import " + path("notes.pth")), "--out is required");
    expect(2, run("import " + path("notes.pth") + " --out " + path("no/where.safetensors")), "hint: mkdir -p");
    expect(2, run("import " + path("notes.pth") + " --out " + path("notes.pth")), "is the file to import");
}

}  // namespace
