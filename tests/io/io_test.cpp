#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bf/io/checkpoint.hpp"
#include "bf/io/npy.hpp"

namespace {

namespace fs = std::filesystem;
using bf::DType;
using bf::Tensor;

class Files : public ::testing::Test {
  protected:
    void SetUp() override {
        folder = fs::temp_directory_path() / ("bf_io_" + std::to_string(::getpid()) + "_" +
                                              ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(folder);
        fs::create_directories(folder);
    }
    void TearDown() override { fs::remove_all(folder); }
    std::string read(const fs::path& p) const {
        std::ifstream in(p, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void write(const fs::path& p, const std::string& bytes) const { std::ofstream(p, std::ios::binary) << bytes; }
    fs::path folder;
};

std::map<std::string, Tensor> some_tensors() {
    return {{"a", Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3})},
            {"b.c", Tensor::from<std::int64_t>({-1, 7}, {2})},
            {"d", Tensor::from<double>({0.5}, {})},
            {"empty", Tensor::empty({0, 4})},
            {"bytes", Tensor::from<std::uint8_t>({1, 2, 255}, {3})},
            {"half", Tensor::from<bf::bf16>({bf::bf16(1.5f)}, {1})}};
}
std::string file_of(const std::string& header, const std::string& data = "") {
    std::string size(8, '\0');
    for (std::size_t i = 0; i < 8; ++i)
        size[i] = static_cast<char>((static_cast<std::uint64_t>(header.size()) >> (8 * i)) & 255);
    return size + header + data;
}

using SafeTensors = Files;
using Npy = Files;
using Checkpoints = Files;
using Json = Files;

TEST_F(SafeTensors, RoundTripKeepsEveryByte) {
    const auto tensors = some_tensors();
    bf::save_safetensors(folder / "t.safetensors", tensors, {{"key", "a \"quoted\" value\n"}});
    const auto back = bf::load_safetensors(folder / "t.safetensors");
    EXPECT_EQ(back.metadata.at("key"), "a \"quoted\" value\n");
    ASSERT_EQ(back.tensors.size(), tensors.size());
    for (const auto& [name, t] : tensors) {
        const Tensor& got = back.tensors.at(name);
        EXPECT_EQ(got.shape(), t.shape()) << name;
        EXPECT_EQ(got.dtype(), t.dtype()) << name;
        EXPECT_EQ(std::memcmp(got.raw(), t.raw(), t.bytes()), 0) << name;
    }
}

TEST_F(SafeTensors, HostileHeadersAreRefused) {
    const std::string good = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    write(folder / "good", file_of(good, "1234"));
    EXPECT_NO_THROW(bf::load_safetensors(folder / "good"));
    const std::pair<std::string, std::string> cases[] = {
        {"empty file", ""},
        {"seven bytes", "1234567"},
        {"header over the file", file_of(good).substr(0, 30)},
        {"header over the cap", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + "{}"},
        {"no brace", file_of(" " + good, "1234")},
        {"not JSON", file_of("{\"a\":", "1234")},
        {"text after", file_of(good + "x", "1234")},
        {"same key twice",
         file_of(
             R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
             "12345678")},
        {"hole", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "12345678")},
        {"overlap",
         file_of(
             R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
             "1234")},
        {"rest of file", file_of(good, "12345")},
        {"cut file", file_of(good, "123")},
        {"offset backwards", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234")},
        {"negative offset", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "1234")},
        {"fractional shape", file_of(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "1234")},
        {"negative shape", file_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234")},
        {"overflowing shape",
         file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", "")},
        {"size mismatch", file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234")},
        {"unknown dtype", file_of(R"({"a":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}})", "1234")},
        {"seven dimensions", file_of(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1],"data_offsets":[0,4]}})", "1234")},
        {"extra member", file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", "1234")},
        {"metadata of numbers", file_of(R"({"__metadata__":{"k":1}})")},
        {"tensor is a list", file_of(R"({"a":[]})")},
        {"deep nesting", file_of("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}")},
        {"padding of zeros", file_of(good + std::string(2, '\0'), "1234")}};
    for (const auto& [name, bytes] : cases) {
        write(folder / "bad", bytes);
        bf::cpu_allocator().reset_peak();
        const auto before = bf::cpu_allocator().stats().in_use;
        try {
            bf::load_safetensors(folder / "bad");
            ADD_FAILURE() << name << " was accepted";
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::data) << name << ": " << e.what();
            EXPECT_NE(std::string(e.what()).find("bad"), std::string::npos) << name;
        }
        EXPECT_LE(bf::cpu_allocator().stats().peak, before + 4096) << name;
    }
}

TEST_F(SafeTensors, CutAnywhereIsADataError) {
    bf::save_safetensors(folder / "t", some_tensors());
    const std::string whole = read(folder / "t");
    for (std::size_t n = 0; n < whole.size(); ++n) {
        write(folder / "cut", whole.substr(0, n));
        EXPECT_THROW(bf::load_safetensors(folder / "cut"), bf::Error) << n;
    }
}

TEST_F(SafeTensors, ImagesInNhwcOrderAreRefused) {
    EXPECT_THROW(bf::save_safetensors(folder / "t", {{"x", Tensor::empty({1, 2, 3, 4}, {.format = bf::Format::nhwc})}}),
                 bf::Error);
    EXPECT_FALSE(fs::exists(folder / "t"));
}

TEST_F(SafeTensors, ReadsTheFileOfAnotherWriter) {
    const auto t = bf::load_safetensors(std::string(BF_TEST_DIR) + "/io/other_writer.safetensors");
    EXPECT_EQ(t.metadata.at("made by"), "numpy");
    EXPECT_EQ(t.tensors.at("grid").shape(), (bf::Shape{2, 3}));
    for (int i = 0; i < 6; ++i) EXPECT_EQ(t.tensors.at("grid").data<float>()[i], static_cast<float>(i) / 4);
    EXPECT_EQ(t.tensors.at("counts").data<std::int64_t>()[1], -5000000000);
}

TEST_F(Npy, RoundTripAndOtherWriters) {
    for (const auto& [name, t] : some_tensors()) {
        if (t.dtype() == DType::bf16) continue;
        bf::save_npy(folder / "a.npy", t);
        const Tensor back = bf::load_npy(folder / "a.npy");
        EXPECT_EQ(back.shape(), t.shape());
        EXPECT_EQ(std::memcmp(back.raw(), t.raw(), t.bytes()), 0);
    }
    const Tensor made = bf::load_npy(std::string(BF_TEST_DIR) + "/io/made_by_numpy.npy");
    EXPECT_EQ(made.shape(), (bf::Shape{3, 2}));
    EXPECT_EQ(made.data<double>()[5], 2.5);
    const std::string good = read(folder / "a.npy");
    for (std::size_t n = 0; n < good.size(); ++n) {
        write(folder / "cut.npy", good.substr(0, n));
        EXPECT_THROW(bf::load_npy(folder / "cut.npy"), bf::Error) << n;
    }
}

TEST_F(Checkpoints, NewestIntactOneIsLoaded) {
    bf::CheckpointFolder checkpoints(folder / "c", 2);
    for (std::uint64_t step : {1, 2, 3})
        checkpoints.save(step, {{"w", bf::full({3}, static_cast<double>(step))}}, {{"note", "x"}});
    EXPECT_EQ(checkpoints.list().size(), 2u);
    EXPECT_EQ(checkpoints.load_latest()->step, 3u);
    std::string bytes = read(checkpoints.list().back());
    bytes.back() = static_cast<char>(bytes.back() ^ 1);  // one flipped bit in the data
    write(checkpoints.list().back(), bytes);
    std::vector<std::string> warnings;
    const auto found = checkpoints.load_latest(&warnings);
    EXPECT_EQ(found->step, 2u);
    EXPECT_EQ(found->content.tensors.at("w").data<float>()[0], 2);
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("checksum"), std::string::npos);
}

TEST_F(Checkpoints, ADamagedFutureDoesNotPushOutWhatIsSavedNow) {
    bf::CheckpointFolder checkpoints(folder / "c", 2);
    for (std::uint64_t step : {1, 8, 9}) checkpoints.save(step, {{"w", bf::full({3}, 1)}}, {});
    for (const auto& file : checkpoints.list()) write(file, "damaged");
    EXPECT_FALSE(checkpoints.load_latest());
    checkpoints.save(3, {{"w", bf::full({3}, 3)}}, {});
    EXPECT_EQ(checkpoints.load_latest()->step, 3u);
    EXPECT_EQ(checkpoints.list().size(), 1u);
    EXPECT_TRUE(fs::exists(folder / "c/step-000000009.safetensors.bad"));
    checkpoints.save(2000000000, {{"w", bf::full({3}, 4)}}, {});  // more digits than the name is padded to
    EXPECT_EQ(checkpoints.load_latest()->step, 2000000000u);
}

TEST_F(Checkpoints, LeftoversAreCollectedAndAFullDiskLosesNothing) {
    fs::create_directories(folder / "c");
    write(folder / "c" / "step-000000009.safetensors.tmp-12", "half");
    bf::CheckpointFolder checkpoints(folder / "c");
    EXPECT_FALSE(checkpoints.load_latest());
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "c"), {}), 1);  // it may be a live trainer's
    checkpoints.collect_leftovers();
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "c"), {}), 0);
    checkpoints.save(1, {{"w", bf::full({3}, 1)}}, {});
    // a device that is always full: the write fails, nothing is left behind, the old file stays
    try {
        fs::create_symlink("/dev/full", folder / ("full.tmp-" + std::to_string(::getpid())));
        bf::AtomicFile file(folder / "full");
        file.write("text");
        file.commit();
        FAIL() << "a full disk went unnoticed";
    } catch (const bf::Error& e) {
        EXPECT_EQ(e.code(), bf::ErrorCode::runtime);
        EXPECT_NE(std::string(e.what()).find("No space left"), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fs::exists(folder / "full"));
    EXPECT_EQ(checkpoints.load_latest()->step, 1u);
}

TEST_F(Json, StrictAndRoundTrip) {
    const bf::Json v = bf::parse_json(R"({"a": [1, 2.5, -3e2, true, null], "b": {"c": "x\u00e9\n"}})", "test");
    EXPECT_EQ(v.find("a")->array[2].number, -300);
    EXPECT_EQ(v.find("b")->find("c")->string, "x\xc3\xa9\n");
    for (const char* bad : {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "nul", "1 2", "\"\x01\"", "[1e999]", "{a:1}", "'a'"})
        EXPECT_THROW(bf::parse_json(bad, "test"), bf::Error) << bad;
    for (const double x : {0.1, 1e300, -5e-324, 3.0}) EXPECT_EQ(bf::parse_json(bf::json_number(x), "n").number, x);
    EXPECT_EQ(bf::json_number(std::nan("")), "null");
}

TEST(Crc32c, KnownAnswers) {
    EXPECT_EQ(bf::crc32c("123456789", 9), 0xE3069283u);  // RFC 3720 check value
    const std::string zeros(32, '\0');
    EXPECT_EQ(bf::crc32c(zeros.data(), 32), 0x8A9136AAu);
    EXPECT_EQ(bf::crc32c("456789", 6, bf::crc32c("123", 3)), 0xE3069283u);
}

}  // namespace
