// Verification sets that have labels and no list of pairs: folders and Omniglot.
#include "program.hpp"

namespace {

class Labelled : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        for (int who = 0; who < 6; ++who)
            for (int n = 0; n < 4; ++n)
                write_pgm(root / "faces" / std::to_string(who) / (std::to_string(n) + ".pgm"), 16, who, n);
        for (int alphabet = 0; alphabet < 2; ++alphabet)
            for (int character = 0; character < 3; ++character)
                write_pgm(root / "signs" / (alphabet ? "Greek" : "Latin") / (std::to_string(character) + ".pgm"), 64,
                          alphabet * 3 + character, 0);
    }
    /// 16 pixels high, a pattern of its own for each `who`, a little else for each n.
    static void write_pgm(const fs::path& path, int width, int who, int n) {
        fs::create_directories(path.parent_path());
        std::ofstream out(path, std::ios::binary);
        out << "P5\n" << width << " 16\n255\n";
        for (int y = 0; y < 16; ++y)
            for (int x = 0; x < width; ++x)
                out.put(static_cast<char>((x % 16 * (who + 1) * 13 + y * (7 - who) * 11 + 5 * n + x / 16) % 256));
    }
    std::string write_config(const std::string& data, const std::string& val) const {
        std::ofstream(root / "c.toml")
            << "network = \"iresnet_small\"\nimage_size = 16\nembedding_size = 16\nbatch_size = 4\nnum_step = 4\nlr = "
               "0.01\n[data]\n"
            << data << "[[val]]\nname = \"v\"\nfolds = 2\n"
            << val;
        return "train " + (root / "c.toml").string() + " --quiet --output " + (root / "run").string();
    }
    std::string at(const char* name) const { return "root = \"" + (root / name).string() + "\"\n"; }
    bf::Json last_eval() const {
        bf::Json last;
        for (const bf::Json& r : bf::read_metrics(root / "run/metrics.jsonl"))
            if (r.string_or("kind", "") == "eval") last = r;
        return last;
    }
};

TEST_F(Labelled, AFolderIsSplitByIdentityAndSearched) {
    const Outcome o = run(write_config("kind = \"folder\"\nidentity_folds = 3\nexclude_folds = [2]\n" + at("faces"),
                                       "kind = \"folder\"\nidentity_folds = 3\nonly_fold = 2\n" + at("faces")));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_NE(o.output.find("Recall@1"), std::string::npos) << o.output;
    EXPECT_NE(read(root / "run/report.html").find("Recall@1: v"), std::string::npos);
    const bf::Json eval = last_eval();
    EXPECT_EQ(eval.number_or("pairs", 0), 24);  // two identities of four images: 12 pairs of each kind, all there are
    EXPECT_GE(eval.number_or("recall_at_1", -1), 0);
    EXPECT_LE(eval.number_or("recall_at_1", 2), 1);
    EXPECT_LE(eval.number_or("map_at_r", 2), 1);
    EXPECT_GT(eval.number_or("map_at_r", -1), 0);  // a search among 7 others finds one of 3 in its first 3
}

TEST_F(Labelled, OmniglotIsSplitByAlphabetAndNotMirrored) {
    const Outcome o = run(write_config("kind = \"omniglot\"\nalphabets = \"Latin\"\n" + at("signs"),
                                       "kind = \"omniglot\"\nalphabets = \"Greek\"\npair_count = 20\n" + at("signs")));
    ASSERT_EQ(o.code, 0) << o.output;
    const bf::Json eval = last_eval();
    EXPECT_EQ(eval.number_or("pairs", 0), 20);
    EXPECT_GE(eval.number_or("recall_at_1", -1), 0);
}

TEST_F(Labelled, WhatDoesNotGoTogetherIsRefused) {
    const std::string data = "kind = \"folder\"\n" + at("faces");
    for (const auto& [train, val, word] : {
             std::tuple{data, "kind = \"folder\"\n", "val.root"},
             {data, "kind = \"folder\"\npairs = \"x\"\nroot = \"y\"\n", "draws its pairs"},
             {data, "kind = \"folder\"\nroot = \"y\"\nidentity_folds = 2\nonly_fold = 3\n", "val.identity_folds"},
             {data, "alphabets = \"Greek\"\n", "val.alphabets"},
             {data + "only_folds = [1]\n", "", "data.identity_folds"},
             {std::string("identity_folds = 2\n"), "", "data.identity_folds"},
         }) {
        const Outcome o = run(write_config(train, val));
        EXPECT_EQ(o.code, 2) << o.output;
        EXPECT_NE(o.output.find(word), std::string::npos) << o.output;
    }
    fs::create_directories(root / "one/who");
    write_pgm(root / "one/who/1.pgm", 16, 0, 0);
    const Outcome o = run(write_config(data, "kind = \"folder\"\n" + at("one")));
    EXPECT_EQ(o.code, 3) << o.output;
    EXPECT_NE(o.output.find("want two identities"), std::string::npos) << o.output;
}

}  // namespace
