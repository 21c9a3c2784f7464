// MegaFace: lists, feature files and the protocols against NumPy (megaface_golden.py), and `bf eval megaface`.
#include "bf/eval/megaface.hpp"

#include <gtest/gtest.h>

#include "bf/data/megaface.hpp"
#include "bf/io/npy.hpp"
#include "errors.hpp"
#include "golden.hpp"
#include "program.hpp"

namespace {

using bf::Tensor;

const Golden& megaface_golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/eval/megaface_golden.txt");
    return g;
}
bf::MemorySource list_of(const std::string& text) { return {std::as_bytes(std::span(text)), "list"}; }
std::vector<std::int64_t> whole(const std::vector<double>& v) { return {v.begin(), v.end()}; }

TEST(MegaFace, AgreesWithTheProtocolWrittenOutInDistances) {
    const auto person = whole(megaface_golden()["person"]);
    const auto p = static_cast<std::int64_t>(person.size());
    const Tensor probes = megaface_golden().tensor("probes", {p, 6}, bf::DType::f32),
                 distractors = megaface_golden().tensor("distractors", {70, 6}, bf::DType::f32);
    const std::vector<char> noisy(megaface_golden()["noisy"].begin(), megaface_golden()["noisy"].end());
    const std::vector<double>& fars = megaface_golden()["fars"];
    for (const std::int64_t block : {70, 7, 1}) {
        SCOPED_TRACE(block);
        bf::DistractorScores scores(probes, 12, bf::impostors_to_keep(static_cast<std::uint64_t>(p) * 70, 0.2));
        for (std::int64_t at = 0; at < 70; at += block)
            scores.add(distractors.rows(at, at + block),
                       std::span(noisy).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(block)));
        const auto r = bf::megaface_result(scores, person, fars);
        EXPECT_EQ(r.hits, whole(megaface_golden()["hits"]));
        EXPECT_EQ(r.trials, static_cast<std::int64_t>(megaface_golden()["trials"][0]));
        EXPECT_EQ(r.people, 5);
        EXPECT_EQ(r.genuine, static_cast<std::uint64_t>(megaface_golden()["pairs"][0]));
        EXPECT_EQ(r.impostors, static_cast<std::uint64_t>(megaface_golden()["pairs"][1]));
        for (std::size_t i = 0; i < fars.size(); ++i) {
            EXPECT_NEAR(r.points[i].tar, megaface_golden()["tars"][i], 1e-15) << fars[i];
            EXPECT_NEAR(r.points[i].far, megaface_golden()["reached"][i], 1e-15) << fars[i];
        }
    }
}

TEST(MegaFace, MoreRanksThanDistractorsAndNoisyOnesBehindAll) {
    const Tensor probes = Tensor::from<float>({1, 0, 0, 1}, {2, 2}), d = Tensor::from<float>({1, 1, 1, 0}, {2, 2});
    bf::DistractorScores scores(probes, 5, 4);
    scores.add(d, std::vector<char>{0, 1});
    const std::vector<std::int64_t> person{3, 3};
    const double fars[] = {0.5, 0.75};
    const auto r = bf::megaface_result(scores, person, fars);
    EXPECT_EQ(r.hits, (std::vector<std::int64_t>{0, 2, 2, 2, 2}));  // one clean distractor is nearer than the mate
    EXPECT_EQ(r.impostors, 4u);
    EXPECT_EQ(r.points[0].tar, 1);  // the two clean pairs are half of all
    EXPECT_EQ(r.points[0].far, 0.5);
    EXPECT_THROW(bf::megaface_result(scores, std::vector<std::int64_t>{1, 2}, fars), bf::Error);
}

TEST(MegaFace, NoisyProbesBecomeTheirPersonsCleanMean) {
    const Tensor x = Tensor::from<float>({3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 7, 0, 1, 1, 0}, {4, 4});
    bf::replace_noisy_probes(x, std::vector<std::int64_t>{0, 0, 0, 1}, std::vector<char>{0, 0, 1, 0});
    const float* v = x.data<float>();
    EXPECT_EQ(v[0], 1);
    EXPECT_EQ(v[5], 1);
    EXPECT_FLOAT_EQ(v[13], std::sqrt(0.5f));
    double squares = 0, off = 0;
    for (int d = 8; d < 12; ++d) {
        squares += static_cast<double>(v[d]) * static_cast<double>(v[d]);
        const double mean = d < 10 ? std::sqrt(0.5) : 0, away = std::abs(static_cast<double>(v[d]) - mean);
        EXPECT_LT(away, 0.003);
        off += away;
    }
    EXPECT_NEAR(squares, 1, 1e-6);
    EXPECT_GT(off, 1e-5);  // the noise is there
    const Tensor y = Tensor::from<float>({1, 2}, {1, 2});
    EXPECT_THROW(bf::replace_noisy_probes(y, std::vector<std::int64_t>{0}, std::vector<char>{1}), bf::Error);
}

TEST(MegaFace, ListsAreReadAndRefused) {
    const auto devkit =
        bf::read_megaface_list(list_of("{\"id\": [\"A\", \"B\\u0042\"],\n \"path\": [\"A/1.png\",\"B\\/2.png\"]}\n"));
    ASSERT_EQ(devkit.paths.size(), 2u);
    EXPECT_EQ(devkit.paths[1], "B/2.png");
    EXPECT_EQ(devkit.ids[1], "BB");
    EXPECT_EQ(bf::read_megaface_list(list_of("{\"index\":[0,1],\"path\":[\"x\"]}")).ids.size(), 0u);
    const auto text = bf::read_megaface_list(list_of("a/b c/1.jpg \n\nd/2.jpg\r\n"));
    EXPECT_EQ(text.paths[0], "a/b c/1.jpg");
    EXPECT_EQ(text.paths[1], "d/2.jpg");
    EXPECT_EQ(bf::path_end("r/a/b/c.jpg", 3), "a/b/c.jpg");
    EXPECT_EQ(bf::path_end("c.jpg", 3), "c.jpg");
    EXPECT_EQ(bf::path_end("a/c.jpg", 1), "c.jpg");
    EXPECT_EQ(bf::read_noise_list(list_of("# n\nx.jpg\n7\ta/b/c.jpg\n\n")),
              (std::vector<std::string>{"a/b/c.jpg", "x.jpg"}));
    const auto expect = [](const std::string& text_of, const std::string& part) {
        const std::string error = message([&] { bf::read_megaface_list(list_of(text_of)); });
        EXPECT_NE(error.find(part), std::string::npos) << error;
    };
    expect("", "names no image");
    expect("{\"path\": [\"a\"", "want `]` at byte 13");
    expect("{\"path\": [\"a", "text without end");
    expect("{\"path\": [[\"a\"]]}", "want text in quotes at byte 10");
    expect("{\"path\": [\"a\"], \"id\": []} x", "text after the list");
    expect("{\"path\": [\"a\"], \"id\": [\"x\", \"y\"]}", "2 ids, 1 paths");
    expect("{\"path\": {}}", "want `[`");
    expect("{\"path\": [\"\"]}", "names are empty");
    EXPECT_NE(message([] { bf::read_noise_list(list_of("a b\n")); }).find("list:1"), std::string::npos);
}

TEST(MegaFace, FeatureFilesAreOpenCvMatrices) {
    const fs::path file = fs::temp_directory_path() / ("bf_feature_" + std::to_string(::getpid()));
    bf::write_feature_file(file, std::vector<float>{0.5f, -2, 3});
    std::ifstream in(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    // as Python's struct packs '<4i3f': 3, 1, 4, 5, 0.5, -2, 3
    const char want[] = "\3\0\0\0\1\0\0\0\4\0\0\0\5\0\0\0\0\0\0\x3f\0\0\0\xc0\0\0\x40\x40";
    EXPECT_EQ(bytes, std::string(want, 28));
    std::vector<float> out;
    bf::read_feature_file(bf::FileSource(file), out);
    bf::read_feature_file(bf::FileSource(file), out);
    EXPECT_EQ(out, (std::vector<float>{0.5f, -2, 3, 0.5f, -2, 3}));
    fs::remove(file);
    const auto expect = [&](std::size_t at, char byte, std::size_t size, const char* part) {
        std::string bad = bytes.substr(0, size);
        if (at < bad.size()) bad[at] = byte;
        const std::string error = message([&] { bf::read_feature_file(list_of(bad), out); });
        EXPECT_NE(error.find(part), std::string::npos) << error;
    };
    expect(99, 0, 15, "ends early");
    expect(99, 0, 27, "got 27 bytes, want 28");
    expect(0, 4, 28, "want 32 for 4 numbers");
    expect(12, 6, 28, "type 6");
    expect(3, 127, 28, "rows 2130706435");
    expect(4, 2, 28, "columns 2");
    std::string nan = bytes;
    nan.replace(16, 4, "\0\0\xc0\x7f", 4);
    EXPECT_NE(message([&] { bf::read_feature_file(list_of(nan), out); }).find("number 0 is not finite"),
              std::string::npos);
}

TEST_F(Program, EvalMegaFaceOfAMadeFolder) {
    // three people of three photos around one axis each, eight distractors
    const auto feature = [&](const fs::path& file, int axis, int wobble) {
        std::vector<float> v(8, 0.0f);
        v[static_cast<std::size_t>(axis)] = 1;
        v[static_cast<std::size_t>(wobble)] += 0.3f;
        fs::create_directories(file.parent_path());
        bf::write_feature_file(file, v);
    };
    std::ofstream probes(root / "probes.json"), distractors(root / "distractors.txt");
    probes << "{\"path\": [";
    for (int p = 0; p < 3; ++p)
        for (int i = 0; i < 3; ++i) {
            const std::string name =
                "P_" + std::to_string(p) + "/p" + std::to_string(p) + "_" + std::to_string(i) + ".png";
            probes << (p + i ? ", " : "") << '"' << name << '"';
            feature(root / "fs" / (name + "_x.bin"), p, 3 + i);
        }
    probes << "]}";
    for (int d = 0; d < 8; ++d) {
        const std::string name = "a/b/d" + std::to_string(d) + ".jpg";
        distractors << name << '\n';
        feature(root / "mf" / (name + "_x.bin"), d == 7 ? 0 : 5, d == 7 ? 0 : d);  // d7 looks like person 0
    }
    probes.close(), distractors.close();
    const std::string r = root.string(),
                      lists = "eval megaface --probes " + r + "/probes.json --distractors " + r + "/distractors.txt ",
                      features = lists + "--probe-root " + r + "/fs --distractor-root " + r + "/mf --ending _x.bin ";
    const Outcome noisy = run(features + "--json");
    ASSERT_EQ(noisy.code, 0) << noisy.output;
    const auto figure = [](const Outcome& o, const char* name) {
        return bf::parse_json(o.output, "report").find("figures")->find(name)->number_or("value", -1);
    };
    EXPECT_DOUBLE_EQ(figure(noisy, "rank-1"), 12.0 / 18);  // d7 is nearer to person 0 than its own photos
    EXPECT_DOUBLE_EQ(figure(noisy, "rank-5"), 1.0);
    std::ofstream(root / "noise.txt") << "# noisy\n1\ta/b/d7.jpg\n";
    const Outcome clean = run(features + "--json --distractor-noise " + r + "/noise.txt --out " + r + "/out");
    ASSERT_EQ(clean.code, 0) << clean.output;
    EXPECT_DOUBLE_EQ(figure(clean, "rank-1"), 1.0);
    EXPECT_TRUE(has(read(root / "out/cmc.svg"), "<svg"));
    EXPECT_TRUE(has(run(features).output, "a missing image or feature file is an error"));
    // vectors in matrices give the same
    Tensor p = Tensor::empty({9, 8}), d = Tensor::empty({8, 8});
    for (auto& [tensor, list, folder] : {std::tuple{p, "probes.json", "fs"}, std::tuple{d, "distractors.txt", "mf"}}) {
        const auto names = bf::read_megaface_list(bf::FileSource(root / list));
        std::vector<float> all;
        for (std::size_t i = 0; i < names.paths.size(); ++i)
            bf::read_feature_file(bf::FileSource(root / folder / (std::string(names.paths[i]) + "_x.bin")), all);
        std::copy(all.begin(), all.end(), tensor.data<float>());
    }
    bf::save_npy(root / "p.npy", p), bf::save_npy(root / "d.npy", d);
    const Outcome matrices =
        run(lists + "--json --probe-embeddings " + r + "/p.npy --distractor-embeddings " + r + "/d.npy");
    EXPECT_EQ(matrices.output, noisy.output);

    const auto expect = [](const Outcome& o, int code, const std::string& part) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(run(lists), 2, "want either --probe-root or --probe-embeddings");
    expect(run(lists + "--probe-root " + r + " --distractor-root " + r), 2, "wants either --ending");
    expect(run(features + "--probe-noise " + r + "/noise.txt"), 3, "names no image of");
    fs::resize_file(root / "mf/a/b/d3.jpg_x.bin", 30);
    expect(run(features), 3, "d3.jpg_x.bin: size; got 30 bytes, want 48");
    fs::remove(root / "mf/a/b/d3.jpg_x.bin");
    expect(run(features), 3, "1 of 8 files are missing");
}

}  // namespace
