// Arrays and weights as NumPy and PyTorch write them (make_weights.py), and pickles of every protocol.
#include <gtest/gtest.h>
#include <unistd.h>

#include "bf/io/npz.hpp"
#include "bf/io/torch_file.hpp"
#include "craft.hpp"
#include "errors.hpp"

namespace {

using namespace craft;

using Tensors = std::map<std::string, bf::Tensor>;

std::string golden(const std::string& name) { return std::string(BF_TEST_DIR) + "/io/" + name; }
void expect_same(const Tensors& got, const Tensors& want, const std::string& prefix = "") {
    EXPECT_EQ(got.size(), want.size());
    for (const auto& [name, t] : want) {
        ASSERT_TRUE(got.count(prefix + name)) << prefix + name;
        const bf::Tensor& g = got.at(prefix + name);
        ASSERT_EQ(g.str(), t.str()) << name;
        EXPECT_TRUE(t.bytes() == 0 || std::memcmp(g.host(), t.host(), t.bytes()) == 0) << name;
    }
}

TEST(TorchFile, TensorsAreThoseOfPyTorchToTheBit) {
    const Tensors want = bf::load_safetensors(golden("weights_expected.safetensors")).tensors;
    EXPECT_GE(want.size(), 19u);
    expect_same(bf::load_torch_file(golden("weights.pth")).tensors, want);
    expect_same(bf::load_torch_file(golden("weights_nested.pth")).tensors, want, "module.");
}

TEST(TorchFile, ACheckpointOfArcfaceTorchGivesItsBackbone) {
    const std::string bytes =
        pth("\x80\x02}(" + text("epoch") + "K\x01" + text("state_dict_softmax_fc") + "}" + text("fc") + tensor({}) +
            "s" + text("state_dict_backbone") + "}" + text("w") + tensor({}) + "su.");
    const bf::MemorySource source(std::as_bytes(std::span(bytes)), "checkpoint_gpu_0.pt");
    const Tensors all = bf::load_torch_file(source).tensors;
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all.at("w").shape(), bf::Shape{4});
}

TEST(TorchFile, WhatIsNotReadSaysWhatToDo) {
    EXPECT_TRUE(has(message([] { bf::load_torch_file(golden("weights_legacy.pth")); }), "torch.save(torch.load("));
    EXPECT_TRUE(has(message([] { bf::load_torch_file(golden("arrays.npz")); }), "no NAME/data.pkl"));
    EXPECT_TRUE(has(message([] { bf::load_torch_file(golden("make_weights.py")); }), "want a zip archive"));
    const std::string module = pth("\x80\x02" + "cmodels.iresnet\nIResNet\n)\x81."s);
    const bf::MemorySource source(std::as_bytes(std::span(module)), "whole.pth");
    const std::string said = message([&] { bf::load_torch_file(source); });
    EXPECT_TRUE(has(said, "names models.iresnet IResNet") && has(said, "torch.save(model.state_dict()")) << said;
}

TEST(Npz, ArraysAreThoseOfNumPyToTheBit) {
    const Tensors want = bf::load_safetensors(golden("arrays_expected.safetensors")).tensors;
    EXPECT_GE(want.size(), 16u);
    expect_same(bf::load_npz(golden("arrays.npz")), want);
    expect_same(bf::load_npz(golden("arrays_compressed.npz")), want);
    const auto path = std::filesystem::temp_directory_path() / ("bf_npz_" + std::to_string(::getpid()) + ".npz");
    bf::save_npz(path, want);
    expect_same(bf::load_npz(path), want);
    std::filesystem::remove(path);
}

TEST(NpyFile, IsByteForByteNumPys) {
    const auto path = std::filesystem::temp_directory_path() / ("bf_npy_" + std::to_string(::getpid()) + ".npy");
    const auto bytes = [](const bf::Source& s) { return s.bytes(0, s.size()); };
    bf::save_npy(path, bf::load_npy(golden("made_by_numpy.npy")));
    EXPECT_EQ(bytes(bf::FileSource(path)), bytes(bf::FileSource(golden("made_by_numpy.npy"))));
    const bf::FileSource archive(golden("arrays.npz"));
    const bf::ZipArchive zip(archive);
    for (const auto& [name, t] : bf::load_npz(archive)) {
        if (t.dtype() == bf::DType::f32 && name == "f2") continue;  // widened; what is in Fortran order is another file
        if (name == "i1" || name == "i2" || name == "u2" || name == "u4" || name == "b1" || has(name, "fortran"))
            continue;
        bf::save_npy(path, t);
        EXPECT_EQ(bytes(bf::FileSource(path)), zip.bytes(*zip.find(name + ".npy"))) << name;
    }
    std::filesystem::remove(path);
}

TEST(Zip, CompressedEntriesAndCutsOfThem) {
    const bf::FileSource archive(golden("arrays_compressed.npz"));
    const bf::ZipArchive zip(archive);
    const bf::ZipEntry* zeros = zip.find("zeros.npy");
    ASSERT_TRUE(zeros && zeros->deflated && zeros->packed < zeros->size / 50);
    EXPECT_TRUE(has(message([&] { zip.stored(*zeros); }), "is compressed"));
    EXPECT_EQ(zip.find("zeros"), nullptr);
    const std::vector<std::byte> all = archive.bytes(0, archive.size());
    for (std::size_t n = 0; n < all.size(); n += 97) {
        const bf::MemorySource cut{std::span(all).first(n), "cut.npz"};
        EXPECT_TRUE(has(message([&] { bf::load_npz(cut); }), "cut.npz")) << n;
    }
}

constexpr std::string_view names[] = {"_codecs encode", "collections OrderedDict", "m f"};
struct Read {
    explicit Read(std::string text)
        : bytes(std::move(text)),
          source(std::as_bytes(std::span(bytes)), "pickle"),
          pickle(source, {.globals = names, .persistent = true}),
          root(pickle.root()) {}
    std::string content() const {
        const auto raw = root.content();
        return {reinterpret_cast<const char*>(raw.data()), raw.size()};
    }
    std::string bytes;
    bf::MemorySource source;
    bf::Pickle pickle;
    bf::PickleValue root;
};

TEST(Pickle, NumbersOfEveryOpcode) {
    for (const auto& [text, want] :
         std::vector<std::pair<std::string, std::int64_t>>{{"I-12\n.", -12},
                                                           {"I01\n.", 1},
                                                           {"L99999999999L\n.", 99999999999},
                                                           {"K\xff.", 255},
                                                           {"M\xff\xff.", 65535},
                                                           {"J\xfe\xff\xff\xff.", -2},
                                                           {"\x80\x02\x8a\0."s, 0},
                                                           {"\x80\x02\x8a\x02\x00\x80."s, -32768},
                                                           {"\x80\x02\x8a\x03\xff\x7f\0."s, 32767},
                                                           {"\x80\x02\x8b\x01\0\0\0\xff."s, -1},
                                                           {"\x80\x02\x88.", 1},
                                                           {"\x80\x02\x89.", 0}})
        EXPECT_EQ(Read(text).root.integer(), want) << text;
    EXPECT_TRUE(Read("F-2.5e3\n.").root.is(bf::PickleKind::real));
    EXPECT_TRUE(Read("\x80\x02G\x40\x04\0\0\0\0\0\0."s).root.is(bf::PickleKind::real));
    EXPECT_TRUE(Read("N.").root.is(bf::PickleKind::none));
    EXPECT_TRUE(has(message([] { Read("N.").root.integer(); }), "want an integer"));
}

TEST(Pickle, StringsOfEveryProtocol) {
    const std::string all = "a\\\n\0\x7f\xff'\""s, latin = "a\\\n\0\x7f\xc3\xbf'\""s;
    EXPECT_EQ(Read("S'a\\\\\\n\\x00\\x7f\\xff\\'\"'\n.").content(), all);
    EXPECT_EQ(Read("T" + little(all.size(), 4) + all + ".").content(), all);
    EXPECT_EQ(Read("U" + little(all.size(), 1) + all + ".").content(), all);
    EXPECT_EQ(Read("\x80\x03" + ("B" + little(all.size(), 4)) + all + ".").content(), all);
    EXPECT_EQ(Read("\x80\x03" + ("C" + little(all.size(), 1)) + all + ".").content(), all);
    EXPECT_EQ(Read("\x80\x04\x8e" + little(all.size(), 8) + all + ".").content(), all);
    EXPECT_EQ(Read("\x80\x05\x96" + little(all.size(), 8) + all + ".").content(), all);
    // bytes of Python 3 in protocols 0 to 2
    EXPECT_EQ(Read("c_codecs\nencode\n(Va\\u005c\\u000a\\u0000\x7f\xff'\"\nVlatin1\ntR.").content(), all);
    EXPECT_EQ(Read("\x80\x02" + "c_codecs\nencode\n"s + text(latin) + text("latin1") + "\x86R.").content(), all);
    EXPECT_EQ(Read("Va b\n.").root.text(), "a b");
    EXPECT_EQ(Read("\x80\x04\x8d" + little(2, 8) + "\xc3\xbf.").root.text(), "\xc3\xbf");
    for (const char* bad : {"S'a\n.", "Sa\n.", "S'\\q'\n.", "S'\\x1'\n.", "S\n."})
        EXPECT_TRUE(has(message([&] { Read(bad).content(); }), "string")) << bad;
    const std::string far = "\x80\x02" + "c_codecs\nencode\n"s + text("\xe2\x82\xac") + text("latin1") + "\x86R.";
    EXPECT_TRUE(has(message([&] { Read(far).content(); }), "is not latin1"));
}

TEST(Pickle, ContainersMemoAndCalls) {
    const Read list("(lp1\nI1\na0(I2\nI3\nlp2\n0(g1\ng2\ndp0\n.");  // {[1]: [2, 3]}, lists of protocol 0
    ASSERT_TRUE(list.root.is(bf::PickleKind::dict));
    EXPECT_EQ(list.root.item(0).item(0).integer(), 1);
    EXPECT_EQ(list.root.item(1).item(1).integer(), 3);
    EXPECT_TRUE(has(message([&] { list.root.item(2); }), "want at least 3 items; got 2"));

    const Read framed("\x80\x04\x95" + little(23, 8) + "}\x94(\x8c\x01" + "a\x94K\x01\x8c\x01" + "bh\x01\x85\x94u0h" +
                      "\0"s + "N\x86" + ".");
    EXPECT_EQ(framed.root.item(0).find("a").second.integer(), 1);
    EXPECT_EQ(framed.root.item(0).find("b").second.item(0).text(), "a");
    EXPECT_FALSE(framed.root.item(0).find("c").first);

    // OrderedDict as Python 3 and Python 2 write it, with attributes that are left out
    for (const std::string& text : {"\x80\x02" + "ccollections\nOrderedDict\n)R(U\1kK\7u}U\1xNsb."s,
                                    "ccollections\nOrderedDict\n((lp1\n(lp2\nS'k'\naI7\naatR."s}) {
        const Read ordered(text);
        ASSERT_TRUE(ordered.root.is(bf::PickleKind::dict));
        EXPECT_EQ(ordered.root.size(), 2u);
        EXPECT_EQ(ordered.root.find("k").second.integer(), 7);
    }
    const Read call("cm\nf\n(K\5tR}b.");
    EXPECT_TRUE(call.root.names("m f") && call.root.item(1).item(0).integer() == 5);
    EXPECT_TRUE(call.root.item(2).is(bf::PickleKind::dict));
    const Read outside("K\1Q.");
    EXPECT_TRUE(outside.root.is(bf::PickleKind::persistent) && outside.root.item(0).integer() == 1);
    EXPECT_EQ(Read("K\1(K\2K\0031(0K\0030.").root.integer(), 1);  // POP_MARK, POP of a mark and of a value
}

}  // namespace
