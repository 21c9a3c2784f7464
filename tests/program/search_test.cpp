#include "bf/eval/search.hpp"

#include "bf/data/encode.hpp"
#include "bf/data/synthetic.hpp"
#include "bf/eval/verification.hpp"
#include "bf/io/json.hpp"
#include "bf/io/npy.hpp"
#include "program.hpp"

namespace {

/// A network of two steps, images of five drawn people, and a gallery of three images of each.
class SearchProgram : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        ASSERT_EQ(run(train("--quiet --set num_step=2 --output " + path("net"))).code, 0);
        const bf::SyntheticFaces faces({.identities = 5, .images_per_identity = 4, .size = 32});
        for (std::int64_t i = 0; i < faces.size(); ++i) {
            const std::string who = "p" + std::to_string(i / 4);
            const fs::path file =
                i % 4 == 3 ? root / "new" / (who + ".png") : root / "known" / who / (std::to_string(i % 4) + ".png");
            fs::create_directories(file.parent_path());
            bf::write_image(file, faces.image(i));
        }
        const Outcome o = search("enroll --images " + path("known") + " --out " + gallery() + model());
        ASSERT_EQ(o.code, 0) << o.output;
        EXPECT_TRUE(has(o.output, "15 images enrolled, 0 were known, 0 left out; now 15 images of 5 identities"))
            << o.output;
    }
    std::string path(const std::string& name) const { return (root / name).string(); }
    std::string gallery() const { return path("gallery.safetensors"); }
    std::string model() const { return " --model " + path("net"); }
    static Outcome search(const std::string& rest) { return run("search " + rest); }
    static void expect(const Outcome& o, int code, const std::string& text) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, text)) << o.output;
    }
};

TEST_F(SearchProgram, FindsWhatEmbeddingsSay) {
    ASSERT_EQ(run("embed --images " + path("known") + " --out " + path("k") + model()).code, 0);
    ASSERT_EQ(run("embed --images " + path("new") + " --out " + path("n") + model()).code, 0);
    const bf::Tensor known = bf::load_npy(root / "k.npy"), fresh = bf::load_npy(root / "n.npy");
    const bf::TopK want = bf::top_k(fresh, known, 15);
    const std::string base = "query --gallery " + gallery();
    const Outcome o = search(base + model() + " --images " + path("new") + " --top 5 --json --csv " + path("q.csv"));
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::Json json = bf::parse_json(o.output.substr(0, o.output.size() - 1), "output");
    ASSERT_EQ(json.find("queries")->array.size(), 5u);
    for (std::size_t q = 0; q < 5; ++q) {
        const bf::Json& one = json.find("queries")->array[q];
        EXPECT_EQ(one.string_or("query", ""), "p" + std::to_string(q) + ".png");
        const auto& best = one.find("best")->array;
        ASSERT_EQ(best.size(), 5u);  // each identity once, by its best image
        std::vector<std::int64_t> rows;
        for (std::int64_t r = 0; r < 15; ++r) {
            const std::int64_t row = want.indices.data<std::int64_t>()[static_cast<std::int64_t>(q) * 15 + r];
            if (std::none_of(rows.begin(), rows.end(), [&](std::int64_t x) { return x / 3 == row / 3; })) {
                const bf::Json& hit = best[rows.size()];
                EXPECT_EQ(hit.string_or("identity", ""), "p" + std::to_string(row / 3));
                EXPECT_EQ(hit.string_or("file", ""),
                          "p" + std::to_string(row / 3) + "/" + std::to_string(row % 3) + ".png");
                EXPECT_NEAR(hit.number_or("cosine", 0),
                            static_cast<double>(want.scores.data<float>()[static_cast<std::int64_t>(q) * 15 + r]),
                            1e-6);
                EXPECT_EQ(hit.find("match"), nullptr);
                rows.push_back(row);
            }
        }
    }
    const std::string csv = read(root / "q.csv");
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 26);
    EXPECT_TRUE(has(csv, "query,rank,identity,cosine,file,match\np0.png,1,"));
    // thirty images of one person stand before anyone else
    for (int i = 0; i < 30; ++i) {
        fs::create_directories(root / "crowd/p0");
        fs::copy_file(root / "known/p0/0.png", root / "crowd/p0" / (std::to_string(i) + ".png"));
    }
    fs::copy(root / "known/p1", root / "crowd/p1");
    fs::copy(root / "known/p2", root / "crowd/p2");
    ASSERT_EQ(search("enroll --images " + path("crowd") + " --out " + path("crowd.g") + model()).code, 0);
    const Outcome crowd = search("query --top 3 --csv " + path("crowd.csv") + " --gallery " + path("crowd.g") +
                                 model() + " " + path("known/p0/0.png"));
    ASSERT_EQ(crowd.code, 0) << crowd.output;
    const std::string found = read(root / "crowd.csv");
    EXPECT_TRUE(has(found, ",1,p0,") && has(found, ",p0/0.png,\n")) << found;  // of equal images the first
    EXPECT_TRUE(has(found, ",3,p1,") || has(found, ",3,p2,")) << found;
    // rows of bf embed ask the same without a network
    const Outcome rows = search(base + " --embeddings " + path("n.npy") + " --top 5 --json");
    EXPECT_EQ(rows.output.substr(rows.output.find("\"best\"", 0), 200),
              o.output.substr(o.output.find("\"best\"", 0), 200));
    EXPECT_TRUE(has(rows.output, "new/p3.png\",\"best\"")) << rows.output;
    // an enrolled image finds itself
    const Outcome self = search(base + model() + " " + path("known/p2/1.png") + " --top 1 --threshold 0.999");
    expect(self, 0, "match     p2  ");
    EXPECT_TRUE(has(self.output, "1 queries, 1 with a match, 0 without")) << self.output;
}

TEST_F(SearchProgram, AThresholdFromTheGallery) {
    const Outcome o = search("calibrate --far 0.1 --json --gallery " + gallery());
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::Json chosen = bf::parse_json(o.output.substr(0, o.output.size() - 1), "output");
    EXPECT_EQ(chosen.number_or("impostors", 0), 90);
    EXPECT_EQ(chosen.number_or("impostors_accepted", 0), 9);
    EXPECT_EQ(chosen.number_or("genuine", 0), 15);
    const std::string threshold = chosen.find("threshold")->string,
                      query = "query --top 1 --gallery " + gallery() + model() + " ";
    expect(search(query + path("new/p0.png")), 0, "threshold " + threshold + " (FAR 0.1, stored in the gallery)");
    expect(search(query + path("new/p0.png") + " --far 0.2"), 0, "18 of all 90 pairs of different people accepted");
    expect(search(query + path("new/p0.png") + " --far 0.001"), 2,
           "wants at least 1000 pairs of different people; got 90");
    const std::string pair = "compare " + path("known/p0/0.png") + " " + path("new/p1.png") + model();
    expect(run(pair + " --json --gallery " + gallery()), 0, "\"threshold\":" + threshold);
    expect(run(pair + " --far 0.2 --gallery " + gallery()), 0, "FAR 0.2 on 90 pairs");
    // a changed gallery keeps no threshold
    expect(search("remove --identity p4 --file p3/1.png --gallery " + gallery()), 0,
           "4 images removed; now 11 images of 4");
    expect(run(pair + " --gallery " + gallery()), 2, "has no threshold");
    expect(search("list --gallery " + gallery()), 0, "     2  p3\n");
    const Outcome back = search("add --images " + path("known") + " --gallery " + gallery() + model());
    expect(back, 0, "4 images enrolled, 11 were known, 0 left out; now 15 images of 5 identities");
    expect(search("list --json --gallery " + gallery()), 0,
           "\"identities\":{\"p0\":3,\"p1\":3,\"p2\":3,\"p3\":3,\"p4\":3}");
}

TEST_F(SearchProgram, TwoImages) {
    const std::string a = path("known/p0/0.png"), b = path("known/p3/2.png");
    ASSERT_EQ(run("embed --images " + path("known") + " --out " + path("k") + model()).code, 0);
    const double distance = bf::pair_distances(bf::load_npy(root / "k.npy"),
                                               std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 11}})[0];
    const Outcome o = run("compare " + a + " " + b + " --json" + model());
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::Json json = bf::parse_json(o.output.substr(0, o.output.size() - 1), "output");
    EXPECT_NEAR(json.number_or("squared_distance", -1), distance, 1e-5);
    EXPECT_NEAR(json.number_or("cosine", -2), 1 - distance / 2, 1e-5);
    EXPECT_EQ(json.find("same"), nullptr);
    expect(run("compare " + a + " " + a + " --threshold 0.9999" + model()), 0,
           "same  (cosine >= threshold 0.99990: given)");
    expect(run("compare " + a + " " + b + " --threshold 1" + model()), 0, "different  (cosine < threshold");
    std::ofstream(root / "eval.json") << "{\"kind\":\"eval\",\"name\":\"lfw\",\"threshold\":1.5}\n";
    expect(run("compare " + a + " " + b + " --json --eval " + path("eval.json") + model()), 0, "\"threshold\":0.25,");
    // landmarks: the crop is what bf align makes of them
    const std::string marks = "10,12,21,12,15.5,17,11,22,20,22.5";
    std::ofstream(root / "list.txt") << "0.png," << marks << "\n";
    ASSERT_EQ(
        run("align " + path("list.txt") + " --root " + path("known/p0") + " --out " + path("crop") + " --png").code, 0);
    const Outcome aligned = run("compare " + a + " " + path("crop/0.png") + model() + " --landmarks " + marks + " " +
                                "38.2946,51.6963,73.5318,51.5014,56.0252,71.7366,41.5493,92.3655,70.7299,92.2041");
    expect(aligned, 0, "cosine            1.00000\n");
    expect(run("compare " + a + " " + b + model() + " --landmarks 1,2 3,4"), 2, "--landmarks: got 1,2");
    expect(run("compare " + a + " " + b + model() + " --threshold 0.3 --eval x"), 2, "want one of");
    expect(run("compare " + a + " " + path("none.png") + model()), 3, "none.png: cannot be read");
    expect(run("compare " + a + " " + b + " --eval " + path("net/config.toml") + model()), 3, "not valid JSON");
}

TEST_F(SearchProgram, RefusesWhatDoesNotBelong) {
    ASSERT_EQ(run(train("--quiet --set num_step=3 --output " + path("other"))).code, 0);
    const std::string other = " --model " + path("other"), query = "query --gallery " + gallery();
    expect(search(query + other + " --images " + path("new")), 2, "was enrolled with another network");
    expect(search("add --gallery " + gallery() + other + " --images " + path("new")), 2, "another network");
    expect(
        run("compare --gallery " + gallery() + other + " --far 0.1 " + path("new/p0.png") + " " + path("new/p1.png")),
        2, "another network");
    expect(search("enroll --images " + path("known") + " --out " + gallery() + model()), 2, "is there already");
    expect(search("query --gallery " + path("net/model.safetensors") + model() + " a.png"), 3, "is not a gallery");
    expect(search(query + model()), 2, "want one of --images FOLDER");
    expect(search(query + " " + path("new/p0.png")), 2, "want --model");
    expect(search("remove --identity nobody --gallery " + gallery()), 2, "holds no identity nobody");
    fs::create_directories(root / "empty");
    expect(search("enroll --images " + path("empty") + " --out " + path("g2") + model()), 3, "holds no image");
    // damaged images: left out and named, the rest is done
    std::ofstream(root / "new/p1.png") << "no image";
    const Outcome o = search(query + model() + " --top 1 --images " + path("new"));
    expect(o, 3, "left out: " + path("new/p1.png"));
    EXPECT_TRUE(has(o.output, "4 queries") && has(o.output, "1 query images could not be used")) << o.output;
    expect(search("enroll --images " + path("new") + " --out " + path("g2") + model()), 3, "1 of 5 cannot be used");
    EXPECT_FALSE(fs::exists(root / "g2"));
    expect(search("enroll --max-bad-share 0.5 --images " + path("new") + " --out " + path("g2") + model()), 0,
           "4 images enrolled, 0 were known, 1 left out");
    // a list with names, and a cut gallery
    std::ofstream(root / "list.tsv") << "path\tidentity\np0.png\tAnn Lee\np2.png\tBo\t3\n";
    expect(search("enroll --list " + path("list.tsv") + " --root " + path("new") + " --out " + path("g3") + model()), 0,
           "2 images of 2 identities");
    expect(search("list --gallery " + path("g3")), 0, "     1  Ann Lee\n");
    const std::string bytes = read(gallery());
    std::ofstream(root / "cut", std::ios::binary) << bytes.substr(0, bytes.size() - 7);
    expect(search("list --gallery " + path("cut")), 3, "hint: is the file cut?");
}

}  // namespace
