#include "bf/io/onnx.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>

#include "bf/io/onnx_writer.hpp"

namespace {

using bf::DType;
using bf::ProtoWriter;
using bf::Tensor;

const std::filesystem::path here = std::string(BF_TEST_DIR) + "/io";

bf::OnnxModel read(const std::string& bytes) {
    return bf::read_onnx(bf::MemorySource(std::as_bytes(std::span(bytes)), "x.onnx"));
}
/// The message of a data Error; anything else that is thrown ends the test.
std::string refused(const std::function<void()>& f) {
    try {
        f();
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::data) << e.what();
        return e.what();
    }
    return "accepted";
}
#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

ProtoWriter model_of(const ProtoWriter& graph) {
    ProtoWriter m;
    m.integer(1, 8);
    m.message(7, graph);
    return m;
}
/// A model of one tensor.
std::string with_tensor(const std::function<void(ProtoWriter&)>& fill) {
    ProtoWriter tensor, graph;
    fill(tensor);
    tensor.bytes(8, "w");
    graph.message(5, tensor);
    return model_of(graph).text();
}

template <class T>
void expect_values(const bf::SafeTensors& got, const std::string& name, const bf::Shape& shape,
                   const std::vector<T>& want) {
    ASSERT_TRUE(got.tensors.count(name)) << name;
    const Tensor& t = got.tensors.at(name);
    ASSERT_EQ(t.shape(), shape) << name;
    ASSERT_EQ(t.dtype(), bf::dtype_of<T>) << name;
    EXPECT_EQ(std::vector<T>(t.span<T>().begin(), t.span<T>().end()), want) << name;
}

TEST(Onnx, EveryElementTypeThatTheOnnxPackageWritesIsRead) {
    const bf::SafeTensors got = bf::load_onnx(here / "made_by_onnx.onnx");
    for (const std::string way : {"raw.", "list."}) {
        expect_values<float>(got, way + "f32", {2, 3}, {0.5, 1.5, 2.5, 3.5, 4.5, 5.5});
        expect_values<double>(got, way + "f64", {3}, {0.5, 1.5, 2.5});
        expect_values<float>(got, way + "f16", {6},
                             {0.5f, -1.5f, 65504.0f, 0x1p-24f, 0.0f, std::numeric_limits<float>::infinity()});
        expect_values<std::int32_t>(got, way + "i32", {2}, {1, -2});
        expect_values<std::int64_t>(got, way + "i64", {2, 1}, {1, -2});
        expect_values<std::uint8_t>(got, way + "u8", {2}, {1, 255});
    }
    expect_values<std::uint8_t>(got, "raw.bool", {2}, {1, 0});
    expect_values<float>(got, "raw.scalar", {}, {7.5});
    expect_values<float>(got, "raw.empty", {0, 3}, {});
    expect_values<float>(got, "constant.f32", {2}, {0.5, 1.5});
    const Tensor& half = got.tensors.at("raw.bf16");
    ASSERT_EQ(half.dtype(), DType::bf16);
    EXPECT_EQ(static_cast<float>(half.data<bf::bf16>()[0]), 1.0f);
    EXPECT_EQ(static_cast<float>(half.data<bf::bf16>()[1]), -2.5f);
    EXPECT_EQ(got.tensors.size(), 17u);
    EXPECT_EQ(got.metadata, (std::map<std::string, std::string>{{"key", "value"}}));
    EXPECT_TRUE(std::isnan(bf::half_to_float(0x7E00)));
    EXPECT_EQ(bf::half_to_float(0x8001), -0x1p-24f);
}

TEST(Onnx, TheGraphThatTheOnnxPackageWroteIsRead) {
    const bf::OnnxModel m = bf::read_onnx(here / "made_by_onnx.onnx");
    EXPECT_EQ(m.opset, 13);
    EXPECT_EQ(m.producer, "golden");
    EXPECT_EQ(m.graph, "golden");
    ASSERT_EQ(m.nodes.size(), 4u);  // the Constant node is a tensor
    const bf::OnnxNode& conv = m.nodes[0];
    EXPECT_EQ(conv.op, "Conv");
    EXPECT_EQ(conv.name, "convolution");
    EXPECT_EQ(conv.inputs, (std::vector<std::string>{"x", "raw.f32", ""}));
    EXPECT_EQ(conv.outputs, std::vector<std::string>{"h"});
    EXPECT_EQ(conv.find("pads")->integers, (std::vector<std::int64_t>{1, 1, 1, 1}));
    EXPECT_EQ(conv.integer_or("group", 1), 2);
    EXPECT_EQ(conv.find("auto_pad")->text, "NOTSET");
    EXPECT_EQ(m.nodes[1].find("alpha")->real, 0.25f);
    EXPECT_EQ(m.nodes[2].find("then_branch")->type, bf::OnnxAttribute::Type::other);
    EXPECT_EQ(m.nodes[3].op, "Other of com.example");
    ASSERT_EQ(m.inputs.size(), 1u);  // an input with a value is a tensor
    EXPECT_EQ(m.inputs[0].name, "x");
    EXPECT_EQ(m.inputs[0].type, bf::OnnxType::f32);
    EXPECT_EQ(m.inputs[0].shape, (std::vector<std::string>{"batch", "3", "8", "8"}));
    ASSERT_EQ(m.outputs.size(), 1u);
    EXPECT_EQ(m.outputs[0].name, "y");
}

TEST(Onnx, WhatIsWrittenIsReadAgain) {
    const auto path = std::filesystem::temp_directory_path() / ("bf_onnx_" + std::to_string(::getpid()));
    using Type = bf::OnnxAttribute::Type;
    bf::OnnxModel m{.opset = 11, .graph = "g", .producer = "p"};
    m.nodes.push_back({"Op",
                       "n",
                       {"x", "", "w"},
                       {"y"},
                       {{.name = "r", .type = Type::real, .real = -0.5f},
                        {.name = "i", .type = Type::integer, .integer = -3},
                        {.name = "t", .type = Type::text, .text = "words"},
                        {.name = "is", .type = Type::integers, .integers = {1, -1, 300}}}});
    m.initialisers.emplace_back("w", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {1, 2, 3}));
    m.initialisers.emplace_back("empty", Tensor::empty({0}));
    m.initialisers.emplace_back("shape", Tensor::from<std::int64_t>({-1, 7}, {2}));
    m.inputs.push_back({"x", bf::OnnxType::u8, {"batch", "3"}});
    m.outputs.push_back({"y", bf::OnnxType::f32, {"batch"}});
    m.metadata = {{"a", "b"}, {"c", ""}};
    const std::uint64_t bytes = bf::save_onnx(path, m);
    EXPECT_EQ(bytes, std::filesystem::file_size(path));
    const bf::OnnxModel got = bf::read_onnx(path);
    std::filesystem::remove(path);
    EXPECT_EQ(got.opset, 11);
    EXPECT_EQ(got.graph, "g");
    EXPECT_EQ(got.producer, "p");
    EXPECT_EQ(got.metadata, m.metadata);
    ASSERT_EQ(got.nodes.size(), 1u);
    EXPECT_EQ(got.nodes[0].inputs, m.nodes[0].inputs);
    EXPECT_EQ(got.nodes[0].outputs, m.nodes[0].outputs);
    EXPECT_EQ(got.nodes[0].find("r")->real, -0.5f);
    EXPECT_EQ(got.nodes[0].integer_or("i", 0), -3);
    EXPECT_EQ(got.nodes[0].find("t")->text, "words");
    EXPECT_EQ(got.nodes[0].find("is")->integers, (std::vector<std::int64_t>{1, -1, 300}));
    ASSERT_EQ(got.initialisers.size(), 3u);
    EXPECT_EQ(got.initialisers[0].second.shape(), (bf::Shape{1, 2, 3}));
    EXPECT_EQ(got.initialisers[0].second.data<float>()[5], 6);
    EXPECT_EQ(got.initialisers[2].second.data<std::int64_t>()[0], -1);
    EXPECT_EQ(got.inputs[0].type, bf::OnnxType::u8);
    EXPECT_EQ(got.inputs[0].shape, m.inputs[0].shape);
    EXPECT_EQ(got.outputs[0].shape, m.outputs[0].shape);
}

TEST(Onnx, WhatCannotBeWrittenIsRefusedBeforeAFileIsMade) {
    const auto path = std::filesystem::temp_directory_path() / ("bf_onnx_" + std::to_string(::getpid()));
    bf::OnnxModel m;
    float nothing = 0;  // never read: the sizes alone decide
    for (const char* name : {"a", "b"}) m.initialisers.emplace_back(name, Tensor::over(&nothing, {300'000'000}, {}));
    const auto message = [&]() -> std::string {
        try {
            bf::save_onnx(path, m);
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::usage);
            return e.what();
        }
        return "written";
    };
    EXPECT_HAS(message(), "2 GiB");
    m.initialisers.clear();
    m.opset = 12;
    EXPECT_HAS(message(), "opset; got 12, want 11, 13 or 17");
    EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Onnx, ValuesInAnotherFileAreRefusedWithTheRemedy) {
    EXPECT_HAS(refused([] { bf::load_onnx(here / "external.onnx"); }), "save_as_external_data=False");
}

TEST(Onnx, DamagedFilesAreRefusedAndNothingElse) {
    const std::vector<std::byte> bytes = [] {
        const bf::FileSource file(here / "made_by_onnx.onnx");
        return file.bytes(0, file.size());
    }();
    for (std::size_t size = 0; size < bytes.size(); size += 3) {
        const std::string got = refused([&] { bf::read_onnx(bf::MemorySource({bytes.data(), size}, "cut.onnx")); });
        // behind the graph stand metadata and opsets, which a file may lack
        if (size < bytes.size() - 60) {
            EXPECT_HAS(got, "cut.onnx");
        }
    }
    std::size_t accepted = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2)
        for (const int bit : {1, 7}) {
            std::vector<std::byte> flipped = bytes;
            flipped[i] ^= std::byte{1} << bit;
            accepted += refused([&] { bf::read_onnx(bf::MemorySource(flipped, "flipped.onnx")); }) == "accepted";
        }
    EXPECT_LT(accepted, bytes.size());
}

TEST(Onnx, HostileTensorsAreRefused) {
    using T = ProtoWriter;
    const auto with = [](const std::function<void(T&)>& fill) { return refused([&] { read(with_tensor(fill)); }); };
    const auto dims = [](T& t, std::initializer_list<std::int64_t> all, std::uint64_t type = 1) {
        for (const std::int64_t d : all) t.integer(1, d);
        t.varint(2, type);
    };
    EXPECT_EQ(with([&](T& t) { dims(t, {2}), t.bytes(9, "12345678"); }), "accepted");
    const std::int64_t large = std::int64_t{1} << 62;
    EXPECT_HAS(with([&](T& t) { dims(t, {large, large}), t.bytes(9, "1234"); }), "larger than its 4 bytes");
    EXPECT_HAS(with([&](T& t) { dims(t, {1 << 30}), t.bytes(9, ""); }), "larger than its 0 bytes");
    EXPECT_HAS(with([&](T& t) { dims(t, {1 << 30}, 7), t.bytes(7, "1234"); }), "larger than its 4 bytes");
    EXPECT_HAS(with([&](T& t) { dims(t, {-1}), t.bytes(9, "1234"); }), "got dimension -1");
    EXPECT_HAS(with([&](T& t) { dims(t, {1, 1, 1, 1, 1, 1, 1}), t.bytes(9, "1234"); }), "at most 6 numbers");
    EXPECT_HAS(with([&](T& t) { dims(t, {3}), t.bytes(9, "1234"); }), "got 4 bytes of values, want 12");
    EXPECT_HAS(with([&](T& t) { dims(t, {3}, 7), t.bytes(7, "\1\2\3\4"); }), "at most 3 numbers");
    EXPECT_HAS(with([&](T& t) { dims(t, {3}, 7), t.bytes(7, "\1\x80\1"); }), "got 2 values, want 3");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}), t.bytes(9, "1234"), t.bytes(9, "1234"); }), "one field of raw bytes");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}), t.varint(4, 1u << 28); }), "floats are kept as whole numbers");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}, 3), t.bytes(9, "1"); }), "is the model quantised");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}, 8), t.bytes(6, "text"); }), "element type that is not read");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}, 1 + 256), t.bytes(9, "1234"); }), "element type that is not read");
    EXPECT_HAS(with([&](T& t) { dims(t, {1}), t.bytes(9, "1234"), t.integer(14, 1); }), "in another file");
    EXPECT_HAS(with([&](T& t) { t.bytes(2, "1"); }), "want a varint");
    EXPECT_HAS(with([&](T& t) { dims(t, {2}), t.bytes(9, "12345678"), t.bytes(8, std::string(5000, 'n')); }),
               "at most 4096 bytes");
    T tensor, graph;
    dims(tensor, {0});
    tensor.bytes(8, "twice");
    graph.message(5, tensor);
    graph.message(5, tensor);
    EXPECT_HAS(refused([&] { read(model_of(graph).text()); }), "two tensors are named \"twice\"");
}

TEST(Onnx, HostileGraphsAreRefused) {
    EXPECT_HAS(refused([] { read(""); }), "holds no graph");
    EXPECT_HAS(refused([] { read("PK\3\4, a zip archive of PyTorch"); }), "x.onnx");
    ProtoWriter no_message;
    no_message.varint(7, 3);
    EXPECT_HAS(refused([&] { read(no_message.text()); }), "want a message");
    ProtoWriter many, sparse, names;
    for (int i = 0; i <= 20'001; ++i) many.bytes(1, "");
    EXPECT_HAS(refused([&] { read(model_of(many).text()); }), "more than 20000 nodes");
    sparse.bytes(15, "");
    EXPECT_HAS(refused([&] { read(model_of(sparse).text()); }), "sparse");
    ProtoWriter node, graph;
    for (int i = 0; i <= 100'001; ++i) node.bytes(1, "");
    graph.message(1, node);
    EXPECT_HAS(refused([&] { read(model_of(graph).text()); }), "more than 100000 names");
    ProtoWriter attribute, with_attribute, outer;
    attribute.bytes(8, std::string(600'000, '\1'));
    with_attribute.message(5, attribute);
    outer.message(1, with_attribute);
    EXPECT_HAS(refused([&] { read(model_of(outer).text()); }), "at most");
    // a graph in an attribute of a node of a graph ...: it is stepped over, not descended into
    ProtoWriter inner;
    for (int i = 0; i < 100; ++i) {
        ProtoWriter a, n, g;
        a.message(6, inner);
        n.message(5, a);
        g.message(1, n);
        inner = g;
    }
    EXPECT_EQ(read(model_of(inner).text()).nodes.size(), 1u);
}

}  // namespace
