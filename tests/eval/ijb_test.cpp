// IJB: readers, templates, ROC and search against NumPy and scikit-learn (ijb_golden.py), and `bf eval ijb`.
#include "bf/eval/ijb.hpp"

#include <gtest/gtest.h>

#include "bf/io/npy.hpp"
#include "commands.hpp"
#include "errors.hpp"
#include "golden.hpp"
#include "model.hpp"
#include "program.hpp"

namespace {

using bf::Tensor;

const Golden& ijb_golden() {
    static const Golden g(std::string(BF_TEST_DIR) + "/eval/ijb_golden.txt");
    return g;
}
template <class T>
std::vector<T> as(const std::vector<double>& values) {
    return std::vector<T>(values.begin(), values.end());
}
bf::MemorySource source(const std::string& text) { return {std::as_bytes(std::span(text)), "list.txt"}; }

void expect_rates(const bf::ScoreRoc& roc, const std::string& name) {
    SCOPED_TRACE(name);
    const std::vector<double>& fars = ijb_golden()["fars"];
    const auto nearest = roc.nearest(fars);
    for (std::size_t i = 0; i < fars.size(); ++i) {
        EXPECT_EQ(nearest[i].tar, ijb_golden()[name + ".nearest_tar"][i]) << fars[i];
        EXPECT_EQ(nearest[i].far, ijb_golden()[name + ".nearest_far"][i]) << fars[i];
        const bf::OperatingPoint strict = roc.strict(fars[i]);
        EXPECT_EQ(strict.tar, ijb_golden()[name + ".strict_tar"][i]) << fars[i];
        EXPECT_EQ(strict.far, ijb_golden()[name + ".strict_far"][i]) << fars[i];
        // the threshold says the same
        const auto rate = [&](std::span<const double> s) {
            return static_cast<double>(
                       std::count_if(s.begin(), s.end(), [&](double v) { return v >= strict.threshold; })) /
                   static_cast<double>(s.size());
        };
        EXPECT_EQ(rate(roc.genuine()), strict.tar);
        EXPECT_EQ(rate(roc.impostor()), strict.far);
    }
    EXPECT_NEAR(roc.auc(), ijb_golden()[name + ".auc"][0], 1e-12);
    EXPECT_NEAR(roc.eer(), ijb_golden()[name + ".eer"][0], 1e-12);
}

TEST(ScoreRoc, AgreesWithScikitLearn) {
    for (int i = 0; i < 6; ++i) {
        const std::string name = "roc" + std::to_string(i);
        expect_rates({ijb_golden()[name + ".scores"], as<std::uint8_t>(ijb_golden()[name + ".same"])}, name);
    }
    EXPECT_THROW(bf::ScoreRoc(std::vector<double>{1}, std::vector<double>{}), bf::Error);
    EXPECT_THROW(bf::ScoreRoc(std::vector<double>{1}, std::vector<double>{std::nan("")}), bf::Error);
}

TEST(ScoreRoc, RadixSortsLikeAnySort) {
    std::vector<double> v{0.0, -0.0, 1e-300, -1e-300, 5e300, -5e300};
    bf::Rng rng(3);
    for (int i = 0; i < 20000; ++i)
        v.push_back(static_cast<double>(i % 3 ? rng.normal() : std::round(rng.normal() * 8)));
    std::vector<double> w = v;
    bf::sort_descending(v);
    std::sort(w.begin(), w.end(), std::greater<>());
    EXPECT_EQ(v, w);  // -0.0 == 0.0
}

TEST(ScoreRoc, StrictNeedsEnoughOfTheLargestImpostors) {
    const std::vector<double> genuine{0.9, 0.5}, impostor{0.8, 0.5, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    // 0.3 * 10 is above 3 in binary: the rate is divided as anyone divides it
    const auto all = bf::strict_point(genuine, impostor, 10, 0.3);
    EXPECT_EQ(all.far, 0.3);
    EXPECT_EQ(all.tar, 1.0);
    const auto some = bf::strict_point(genuine, std::span(impostor).first(4), 10, 0.3);
    EXPECT_EQ(some.tar, all.tar);
    EXPECT_EQ(some.threshold, all.threshold);
    EXPECT_EQ(bf::strict_point(genuine, impostor, 10, 0.29).tar, 0.5);  // 0.5 ties with two impostors
    EXPECT_EQ(bf::strict_point(genuine, impostor, 10, 1).far, 1.0);
    EXPECT_THROW(bf::strict_point(genuine, std::span(impostor).first(3), 10, 0.3), bf::Error);
}

bf::Templates templates_of(bf::TemplateOptions options) {
    const auto n = static_cast<std::int64_t>(ijb_golden()["template"].size());
    return bf::make_templates(ijb_golden().tensor("images", {n, 8}, bf::DType::f32),
                              as<std::uint32_t>(ijb_golden()["template"]), as<std::uint32_t>(ijb_golden()["media"]),
                              as<float>(ijb_golden()["detector"]), as<char>(ijb_golden()["present"]), options);
}

TEST(IjbTemplates, AgreeWithNumpy) {
    const std::pair<const char*, bf::TemplateOptions> cases[] = {
        {"kept", {}},
        {"plain", {.detector_weights = false}},
        {"unit", {.detector_weights = true, .normalise_images = true}}};
    for (const auto& [name, options] : cases) {
        const bf::Templates t = templates_of(options);
        EXPECT_EQ(t.id, as<std::uint32_t>(ijb_golden()["ids"]));
        const std::vector<double>& want = ijb_golden()[std::string("features.") + name];
        ASSERT_EQ(t.features.numel(), static_cast<std::int64_t>(want.size()));
        for (std::size_t i = 0; i < want.size(); ++i)
            EXPECT_NEAR(t.features.data<double>()[i], want[i], 1e-12) << name << i;
        EXPECT_EQ(std::count(t.empty.begin(), t.empty.end(), 1), 1);
        EXPECT_TRUE(t.empty[0]);  // template 2
    }
    const Tensor bad = Tensor::from<float>({1, std::nanf("")}, {1, 2});
    EXPECT_NE(message([&] {
                  bf::make_templates(bad, std::vector<std::uint32_t>{1}, std::vector<std::uint32_t>{1},
                                     std::vector<float>{1});
              }).find("image vector 0 is not finite"),
              std::string::npos);
}

TEST(IjbPairs, ScoresAndRatesAgreeWithNumpyAndScikitLearn) {
    const bf::Templates t = templates_of({});
    auto first = as<std::uint32_t>(ijb_golden()["first"]), second = as<std::uint32_t>(ijb_golden()["second"]);
    bf::to_rows(t, first, "pairs");
    bf::to_rows(t, second, "pairs");
    const auto scores = bf::pair_scores(t.features, first, second);
    const std::vector<double>& want = ijb_golden()["scores"];
    ASSERT_EQ(scores.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(scores[i], want[i], 1e-12) << i;
    EXPECT_EQ(bf::pair_scores(t.features, second, first), scores);
    // copies of templates tie exactly: the last pairs, two by two
    for (std::size_t i = scores.size() - 24; i < scores.size(); i += 2) EXPECT_EQ(scores[i], scores[i + 1]);
    expect_rates({scores, as<std::uint8_t>(ijb_golden()["same"])}, "pairs");
    std::vector<std::uint32_t> unknown{2, 7};
    EXPECT_NE(message([&] { bf::to_rows(t, unknown, "p.txt"); }).find("p.txt: names template 7"), std::string::npos);
}

TEST(IjbPairs, TilesAndThreadsChangeNothing) {
    constexpr std::int64_t rows = 300, dim = 70;  // several tiles, a rest after 64 dimensions
    bf::Rng rng(5);
    const Tensor f = Tensor::empty({rows, dim}, {.dtype = bf::DType::f64});
    for (double& v : f.span<double>()) v = static_cast<double>(rng.normal());
    std::vector<std::uint32_t> a, b;
    for (int i = 0; i < 40000; ++i) {
        a.push_back(static_cast<std::uint32_t>(rng.below(rows)));
        b.push_back(static_cast<std::uint32_t>(rng.below(rows)));
    }
    const auto scores = bf::pair_scores(f, a, b);
    for (std::size_t i = 0; i < a.size(); i += 37) {
        double sum = 0;
        for (std::int64_t d = 0; d < dim; ++d)
            sum += f.data<double>()[a[i] * dim + d] * f.data<double>()[b[i] * dim + d];
        ASSERT_NEAR(scores[i], sum, 1e-11) << i;
    }
    const int threads = bf::cpu_pool().threads();
    bf::cpu_pool().resize(threads == 1 ? 3 : 1);
    EXPECT_EQ(bf::pair_scores(f, a, b), scores);
    bf::cpu_pool().resize(threads);
    b[0] = rows;
    EXPECT_THROW(bf::pair_scores(f, a, b), bf::Error);
}

TEST(IjbSearch, AgreesWithTheRuleWrittenOut) {
    const auto probe_subject = as<std::uint32_t>(ijb_golden()["probe_subject"]);
    auto gallery_subject = as<std::uint32_t>(ijb_golden()["gallery_subject"]);
    const Tensor probes = ijb_golden().tensor("probes", {60, 6}, bf::DType::f32),
                 gallery = ijb_golden().tensor("gallery", {23, 6}, bf::DType::f32);
    const std::vector<double>& fpirs = ijb_golden()["fpirs"];
    const auto r = bf::search_gallery(probes, probe_subject, gallery, gallery_subject, fpirs, 8);
    EXPECT_EQ(r.hits, as<std::int64_t>(ijb_golden()["hits"]));
    EXPECT_EQ(r.mated, static_cast<std::int64_t>(ijb_golden()["mated"][0]));
    EXPECT_EQ(r.non_mated, static_cast<std::int64_t>(ijb_golden()["non_mated"][0]));
    EXPECT_EQ(r.threshold, ijb_golden()["thresholds"]);
    for (std::size_t i = 0; i < fpirs.size(); ++i) EXPECT_NEAR(r.tpir[i], ijb_golden()["tpir"][i], 1e-15);
    // all probes mated: there is no FPIR
    const auto closed = bf::search_gallery(gallery, gallery_subject, gallery, gallery_subject, fpirs, 40);
    EXPECT_TRUE(std::isnan(closed.tpir[0]));
    EXPECT_EQ(closed.hits.back(), 23);
    gallery_subject[1] = gallery_subject[0];
    EXPECT_THROW(bf::search_gallery(probes, probe_subject, gallery, gallery_subject, fpirs, 8), bf::Error);
}

TEST(IjbBootstrap, IntervalsAreThoseOfClusters) {
    std::vector<double> genuine;
    std::vector<std::uint32_t> one_each, ten_each;
    for (std::uint32_t i = 0; i < 400; ++i) {
        genuine.push_back(i / 10 % 4 ? 1 : 0);
        one_each.push_back(i);
        ten_each.push_back(i / 10);
    }
    const double thresholds[] = {0.5, -1};
    const auto a = bf::bootstrap_tar(genuine, one_each, thresholds),
               b = bf::bootstrap_tar(genuine, ten_each, thresholds);
    EXPECT_NEAR(a[0].high - a[0].low, 2 * 1.96 * std::sqrt(0.75 * 0.25 / 400), 0.02);
    EXPECT_NEAR(b[0].high - b[0].low, 2 * 1.96 * std::sqrt(0.75 * 0.25 / 40), 0.06);
    EXPECT_EQ(b[1].low, 1);
}

TEST(IjbFiles, AreReadAndRefusedWithTheirLine) {
    const std::string media_text = "1.jpg 5 70\r\n\n a/2.jpg\t5 71\n3.jpg 9 70";
    const auto media = bf::read_ijb_media(source(media_text));
    ASSERT_EQ(media.images.size(), 3u);
    EXPECT_EQ(media.images[1], "a/2.jpg");
    EXPECT_EQ(media.template_id, (std::vector<std::uint32_t>{5, 5, 9}));
    EXPECT_EQ(media.media_id, (std::vector<std::uint32_t>{70, 71, 70}));
    const auto faces = bf::read_ijb_faces(
        source("1.jpg 46.060 62.026 87.785 60.323 68.851 77.656 52.162 99.875 86.450 98.648 0.999\n"));
    EXPECT_FLOAT_EQ(faces.points[0][9], 98.648f);
    EXPECT_FLOAT_EQ(faces.score[0], 0.999f);
    EXPECT_NE(message([&] { bf::check_same_images(media, faces, "m", "f"); }).find("names 1 images, m 3"),
              std::string::npos);
    const auto pairs = bf::read_ijb_pairs(source("1 11065 1\n2 3 0\n"));
    EXPECT_EQ(pairs.second, (std::vector<std::uint32_t>{11065, 3}));
    EXPECT_EQ(pairs.same, (std::vector<std::uint8_t>{1, 0}));
    const auto subjects = bf::read_ijb_subjects(source("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,1,x\n3,2\n9,1,y\n"));
    EXPECT_EQ(subjects.template_id, (std::vector<std::uint32_t>{3, 9}));
    EXPECT_EQ(subjects.subject_id, (std::vector<std::uint32_t>{2, 1}));

    const auto expect = [](const std::string& error, const std::string& part) {
        EXPECT_NE(error.find(part), std::string::npos) << error;
    };
    expect(message([] { bf::read_ijb_media(source("1.jpg 5 70\n2.jpg 5\n")); }), "list.txt:2: not an image");
    expect(message([] { bf::read_ijb_media(source("1.jpg 5 70 8\n")); }), "want `image template-id media-id`");
    expect(message([] { bf::read_ijb_media(source("1.jpg 5000000000 7\n")); }), "list.txt:1");
    expect(message([] { bf::read_ijb_media(source("")); }), "names no image");
    expect(message([] { bf::read_ijb_faces(source("1.jpg 1 2 3 4 5 6 7 8 9 nan 1\n")); }), "five points");
    expect(message([] { bf::read_ijb_pairs(source("1 2 1\n1 2 2\n")); }), "list.txt:2: not a pair");
    expect(message([] { bf::read_ijb_pairs(source("1 -2 1\n")); }), "list.txt:1");
    expect(message([] { bf::read_ijb_subjects(source("T,S\n1,2\n1,3\n")); }), "template 1 belongs to two subjects");
    expect(message([] { bf::read_ijb_subjects(source("T,S\n1;2\n")); }), "list.txt:2");
    expect(message([] { bf::read_ijb_pairs(source(std::string(3 << 20, '7'))); }), "line is too long");
}

TEST(IjbFiles, LinesAreWholeAcrossTheBuffer) {
    std::string text;
    for (int i = 0; i < 200000; ++i)
        text += std::to_string(i) + " " + std::to_string(7 * i) + " " + (i % 5 ? "0\n" : "1\n");
    ASSERT_GT(text.size(), std::size_t{2} << 20);
    const auto pairs = bf::read_ijb_pairs(source(text));
    ASSERT_EQ(pairs.first.size(), 200000u);
    for (std::uint32_t i = 0; i < 200000; ++i)
        ASSERT_TRUE(pairs.first[i] == i && pairs.second[i] == 7 * i && pairs.same[i] == (i % 5 == 0)) << i;
}

/// A made folder: 6 subjects in 12 templates of 1..3 images, landmarks of an upright face, noise as pixels.
class ProgramIjb : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        fs::create_directories(root / "meta");
        fs::create_directories(root / "loose_crop");
        std::ofstream media(root / "meta/ijbb_face_tid_mid.txt"), faces(root / "meta/ijbb_name_5pts_score.txt"),
            pairs(root / "meta/ijbb_template_pair_label.txt"), probes(root / "meta/ijbb_1N_probe_mixed.csv"),
            s1(root / "meta/ijbb_1N_gallery_S1.csv"), s2(root / "meta/ijbb_1N_gallery_S2.csv");
        bf::Rng rng(9);
        int image = 0;
        for (int t = 0; t < 12; ++t)
            for (int i = 0; i <= t % 3; ++i) {
                const std::string name = std::to_string(++image) + ".ppm";
                media << name << ' ' << t << ' ' << 50 + i / 2 << '\n';
                faces << name << " 13 16 27 16 20 24 15 30 26 30 0." << 5 + i << '\n';
                std::ofstream file(root / "loose_crop" / name, std::ios::binary);
                file << "P6 40 40 255\n";
                for (int p = 0; p < 40 * 40 * 3; ++p)
                    file.put(static_cast<char>((p * (3 + t % 6) / 40 + static_cast<int>(rng.below(60))) & 255));
            }
        for (int a = 0; a < 6; ++a)
            for (int b = 6; b < 12; ++b) pairs << a << ' ' << b << ' ' << (b - a == 6) << '\n';
        probes << "TEMPLATE_ID,SUBJECT_ID\n", s1 << "TEMPLATE_ID,SUBJECT_ID\n", s2 << "TEMPLATE_ID,SUBJECT_ID\n";
        for (int t = 0; t < 6; ++t) {
            (t < 3 ? s1 : s2) << t << ',' << t << '\n';
            probes << t + 6 << ',' << t << '\n';
        }
        bf::RunConfig config;
        config.network = "iresnet_small";
        config.embedding_size = config.image_size = 16;
        bf::save_safetensors(root / "m.safetensors", bf::program::network_of(config)->state(),
                             bf::program::model_metadata(config));
        eval = "eval ijb --set ijbb --root " + root.string() + " ";
        model = "--model " + (root / "m.safetensors").string() + " ";
    }
    /// The JSON line below the progress.
    static std::string printed(const Outcome& o) { return o.output.substr(o.output.find('{')); }
    std::string eval, model;
};

TEST_F(ProgramIjb, EmbedsScoresAndGoesOnFromItsCache) {
    const std::string cache = (root / "c.npy").string(), out = (root / "out").string();
    const std::string common = eval + model + "--batch 3 --json --cache " + cache;
    const Outcome first = run(common + " --out " + out + " --scores " + (root / "s.npy").string());
    ASSERT_EQ(first.code, 0) << run(common).output;
    const bf::Json report = bf::parse_json(printed(first), "report");
    EXPECT_EQ(report.find("facts")->string_or("pairs", ""), "36");
    EXPECT_EQ(report.find("facts")->string_or("genuine", ""), "6");
    EXPECT_EQ(bf::load_npy(root / "s.npy").numel(), 36);
    EXPECT_TRUE(has(read(root / "out/roc.svg"), "<svg"));
    EXPECT_TRUE(has(read(root / "out/tar_at_far.csv"), "insightface-nearest"));
    // the same from the cache, from half a cache, and from given vectors
    const std::string kept = read(cache), facts = read(cache + ".txt");
    EXPECT_EQ(run(common).output, printed(first));
    fs::remove(cache);
    std::ofstream(cache + ".part", std::ios::binary) << facts << kept.substr(kept.size() - 24 * 64, 5 * 64 + 7);
    const Outcome resumed = run(common);
    EXPECT_TRUE(has(resumed.output, "3 of 24 images are there already")) << resumed.output;
    EXPECT_TRUE(read(cache) == kept);
    EXPECT_FALSE(fs::exists(cache + ".part"));
    const Outcome given = run(eval + "--json --embeddings " + cache);
    ASSERT_EQ(given.code, 0) << given.output;
    EXPECT_EQ(given.output.substr(given.output.find("\"figures\"")),
              first.output.substr(first.output.find("\"figures\"")));
    const Outcome other = run(eval + model + "--no-flip --cache " + cache);
    EXPECT_EQ(other.code, 2) << other.output;
    EXPECT_TRUE(has(other.output, "is of something else")) << other.output;
    // rows in another order, named
    const Tensor rows = bf::load_npy(cache), turned = Tensor::empty(rows.shape());
    std::ofstream names(root / "n.txt");
    for (std::int64_t i = 0; i < 24; ++i) {
        turned.rows(i, i + 1).copy_from(rows.rows(23 - i, 24 - i));
        names << "some/where/" << 24 - i << ".ppm\n";
    }
    names.close();
    bf::save_npy(root / "t.npy", turned);
    const std::string named =
        eval + "--json --embeddings " + (root / "t.npy").string() + " --names " + (root / "n.txt").string();
    EXPECT_EQ(run(named).output.substr(run(named).output.find("\"figures\"")),
              first.output.substr(first.output.find("\"figures\"")));

    const Outcome search = run(eval + "--protocol 1:N --embeddings " + cache + " --out " + out);
    EXPECT_EQ(search.code, 0) << search.output;
    EXPECT_TRUE(has(search.output, "IJB-B 1:N") && has(search.output, "TPIR@FPIR=0.01") &&
                has(search.output, "rank-10"))
        << search.output;
    EXPECT_TRUE(fs::exists(root / "out/cmc.svg") && fs::exists(root / "out/tpir.csv"));
    const Outcome closed = run(eval + "--protocol 1:N-closed --embeddings " + cache);
    EXPECT_EQ(closed.code, 0) << closed.output;
    EXPECT_TRUE(has(closed.output, "merged")) << closed.output;
}

TEST_F(ProgramIjb, SaysWhatIsWrong) {
    const auto expect = [](const Outcome& o, int code, const std::string& part) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(run(eval), 2, "want either --model or --embeddings");
    expect(run("eval ijb --rot x"), 2, "did you mean --root?");
    expect(run(eval + model + "--protocol 1:2"), 2, "--protocol");
    expect(run(eval + model + "--names x"), 2, "--names goes with --embeddings");
    expect(run("eval ijb --set ijbc --root " + root.string() + " " + model), 3,
           "ijbc_face_tid_mid.txt: cannot be read");
    bf::save_npy(root / "e.npy", bf::full({23, 4}, 1));
    expect(run(eval + "--embeddings " + (root / "e.npy").string()), 3, "rows; got 23, want 24");
    fs::remove(root / "loose_crop/4.ppm");  // the one image of template 3
    expect(run(eval + model), 3, "1 of 24 images are missing, the first 4.ppm; hint: --skip-missing");
    const Outcome skipped = run(eval + model + "--skip-missing");
    expect(skipped, 0, "missing images: 1\n");
    EXPECT_TRUE(has(skipped.output, "templates without an image: 0")) << skipped.output;
    std::ofstream(root / "loose_crop/4.ppm") << "P6 40 40 255\nshort";
    expect(run(eval + model), 3, "4.ppm");
    std::ofstream(root / "meta/ijbb_template_pair_label.txt", std::ios::app) << "1 2\n";
    expect(run(eval + model), 3, "ijbb_template_pair_label.txt:37: not a pair of templates");
    std::ofstream(root / "meta/ijbb_name_5pts_score.txt", std::ios::app) << "9.ppm 1 2 3 4 5 6 7 8 9 10 1\n";
    expect(run(eval + model), 3, "names 25 images");
}

}  // namespace
