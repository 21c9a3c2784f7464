#include "bf/data/verification_bin.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "bf/io/json.hpp"

namespace {

namespace fs = std::filesystem;
using bf::VerificationBin;

std::string golden(const std::string& name) {
    const bf::FileSource file(std::string(BF_TEST_DIR) + "/data/verification_" + name + ".bin");
    const auto bytes = file.bytes(0, file.size());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
/// A bin in memory.
struct Bin {
    explicit Bin(std::string content)
        : bytes(std::move(content)),
          bin(std::make_shared<bf::MemorySource>(std::as_bytes(std::span(bytes)), "set.bin")) {}
    std::string bytes;
    VerificationBin bin;
};
/// What make_bins.py says of its pictures and pairs.
void expect_golden(const VerificationBin& bin, const std::string& name) {
    ASSERT_EQ(bin.size(), 4) << name;
    EXPECT_EQ(bin.same(), (std::vector<char>{1, 0})) << name;
    EXPECT_EQ(bin.pairs(), (std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {2, 3}})) << name;
    for (int i = 0; i < 4; ++i) {
        const bf::Image image = bin.image(i);
        ASSERT_EQ(image.width, 3) << name;
        ASSERT_EQ(image.height, 2) << name;
        const auto pixel = [&](int x, int y) {
            return std::array<int, 3>{image.at(x, y)[0], image.at(x, y)[1], image.at(x, y)[2]};
        };
        EXPECT_EQ(pixel(0, 0), (std::array<int, 3>{255, i, 0})) << name;
        EXPECT_EQ(pixel(2, 1), (std::array<int, 3>{i * 40, 100, 200})) << name;
    }
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}
std::string message(const auto& f) {
    try {
        f();
    } catch (const bf::Error& e) {
        return e.code() == bf::ErrorCode::data ? e.what() : "not a data Error";
    }
    return "no error";
}

TEST(VerificationBin, ArraysOfOpenCvAndBytesInEveryProtocol) {
    for (const char* name : {"flat0", "column2", "flat3", "column4", "flat5", "bytes0", "bytes5"}) {
        const Bin set(golden(name));
        expect_golden(set.bin, name);
    }
    for (const char* name : {"flat0", "column2", "flat3"}) {  // numpy 1 calls its parts otherwise
        const std::string old = replaced(golden(name), "numpy._core", "numpy.core");
        ASSERT_NE(old, golden(name));
        expect_golden(Bin(old).bin, name);
    }
}

TEST(VerificationBin, PythonTwoStrings) {
    const std::string picture = "P6\\n1 1\\n255\\nab\\xff";
    const Bin text("((lp1\nS'" + picture + "'\np2\naS\"" + picture + "\"\np3\na(lp4\nI01\natp5\n.");
    EXPECT_EQ(text.bin.same(), std::vector<char>{1});
    for (int i = 0; i < 2; ++i) EXPECT_EQ(text.bin.image(i).pixels, (std::vector<std::uint8_t>{'a', 'b', 255}));
    EXPECT_EQ(text.bin.name(1), "set.bin, image 1");
}

TEST(VerificationBin, WhatIsWrongIsSaid) {
    const auto said = [](const std::string& bytes) {
        return message([&] {
            const Bin set(bytes);
            for (std::int64_t i = 0; i < set.bin.size(); ++i) set.bin.image(i);
        });
    };
    const auto has = [](const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << text;
    };
    const std::string good = golden("bytes5");
    EXPECT_EQ(said(good), "no error");
    has(said(replaced(good, "P6", "P9")), "set.bin, image 0: not a JPEG");
    has(said(replaced(golden("flat3"), "u1", "f4")), "numpy array of dtype f4");
    has(said(replaced(golden("flat3"), "b1", "u2")), "issame of pair 0 is no boolean");
    has(said(good.substr(0, good.size() / 2)), "is the file cut?");
    has(said("\x80\x02](U\x01xU\x01ye}\x86."), "is neither a list nor a numpy array of booleans");
    has(said("\x80\x02K\x01."), "want the pickle of (images, issame)");
    has(said("PK\x03\x04 a zip archive"), "pickle at byte");
    EXPECT_EQ(message([] { VerificationBin(fs::path("/nonexistent.bin")); }).find("/nonexistent.bin"), 0u);
}

TEST(VerificationBin, PublishedLayoutOfPython2And3) {
    const char* variable = std::getenv("BF_SHARED");
    const fs::path folder = fs::path(variable ? variable : BF_SHARED_DIR) / "data" / "insightface-tiny";
    if (!fs::exists(folder)) GTEST_SKIP() << "no " << folder << ": BF_SHARED names no folder with the data";
    const bf::FileSource file(folder / "expected.json");
    const auto bytes = file.bytes(0, file.size());
    const bf::Json expected =
        bf::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "expected.json");
    const auto& pairs = expected.find("pairs")->array;
    const VerificationBin all(folder / "pairs.bin");
    ASSERT_EQ(all.same().size(), pairs.size());
    for (std::size_t k = 0; k < pairs.size(); ++k) EXPECT_EQ(all.same()[k] != 0, pairs[k].find("same")->boolean) << k;
    // an image that is in several pairs has one file: the same name, the same bytes
    std::map<std::string, std::vector<std::byte>> files;
    for (std::size_t k = 0; k < pairs.size(); ++k)
        for (const auto& [key, place] : {std::pair{"a", 2 * k}, {"b", 2 * k + 1}}) {
            const auto i = static_cast<std::int64_t>(place);
            const auto [it, added] = files.try_emplace(pairs[k].string_or(key, ""), all.encoded(i));
            EXPECT_TRUE(added || it->second == all.encoded(i)) << it->first;
        }
    EXPECT_EQ(all.image(0).width, 112);
    EXPECT_EQ(all.image(all.size() - 1).height, 112);
    for (const char* protocol : {"2", "3", "4", "5"}) {
        const VerificationBin some(folder / (std::string("pairs_py3_protocol") + protocol + ".bin"));
        ASSERT_EQ(some.size(), 40);
        for (std::int64_t i = 0; i < some.size(); ++i)
            ASSERT_EQ(some.encoded(i), all.encoded(i)) << protocol << " " << i;
        for (std::size_t k = 0; k < 20; ++k) EXPECT_EQ(some.same()[k], all.same()[k]) << protocol;
    }
}

}  // namespace
