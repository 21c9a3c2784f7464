#include <algorithm>
#include <cmath>

#include "bf/core/tensor.hpp"
#include "bf/io/npy.hpp"
#include "program.hpp"

namespace {

/// Small made images and lists: person p's image i is a pattern of its own with a little noise.
class Eval : public Program {
  protected:
    void image(const fs::path& path, int person, int number) const {
        fs::create_directories((root / path).parent_path());
        std::ofstream out(root / path, std::ios::binary);
        out << "P5\n8 8\n255\n";
        for (int k = 0; k < 64; ++k)
            out << static_cast<char>((k * (person + 3) * 7 + (person * k * k) % 31 + (number * k * 13) % 90) % 200 +
                                     20);
    }
    std::string at(const std::string& path) const { return (root / path).string(); }
    /// 40 pairs of 8 people, same and different in turn.
    std::string pair_list() const {
        std::string list;
        for (int k = 0; k < 40; ++k) {
            const int p = k % 8, q = k % 2 ? (p + 1 + k / 8) % 8 : p;
            const auto name = [&](int who, int number) {
                const std::string path = "p" + std::to_string(who) + "/" + std::to_string(number) + ".pgm";
                image("images/" + path, who, number);
                return path;
            };
            list += name(p, k / 8) + " " + name(q, k % 2 ? k / 8 : k / 8 + 1) + (k % 2 ? " 0\n" : " 1\n");
        }
        std::ofstream(root / "pairs.txt") << list;
        return "eval --kind list --pixels --pairs " + at("pairs.txt") + " --root " + at("images");
    }
    bf::Json report(const std::string& folder) const {
        return bf::parse_json(read(root / folder / "report.json"), folder);
    }
    double figure(const std::string& folder, const std::string& name, const char* part = "value") const {
        const bf::Json r = report(folder);
        const bf::Json* f = r.find("figures")->find(name);
        return f ? f->number_or(part, std::nan("")) : std::nan("");
    }
};

TEST_F(Eval, ReportsOfPairsAndThePairedTest) {
    const std::string eval = pair_list();
    const Outcome o = run(eval + " --folds 5 --out " + at("a"));
    ASSERT_EQ(o.code, 0) << o.output;
    for (const char* part : {"protocol: pairs of a list, 5-fold verification", "equal scores are accepted together",
                             "linear between the last thresholds", "pairs: 40 (20 same)", "TAR@FAR=1e-3"})
        EXPECT_TRUE(has(o.output, part)) << part << "\n" << o.output;
    for (const char* file : {"report.json", "figures.csv", "folds.csv", "roc.svg", "roc.csv", "det.svg", "det.csv",
                             "scores.csv", "eval.json"})
        EXPECT_TRUE(fs::exists(root / "a" / file)) << file;
    EXPECT_LT(figure("a", "accuracy", "low"), figure("a", "accuracy"));
    EXPECT_GT(figure("a", "accuracy", "high"), figure("a", "accuracy"));
    const std::string scores = read(root / "a/scores.csv");
    EXPECT_EQ(scores.rfind("score,same,fold,accepted,first,second\n", 0), 0u);
    EXPECT_EQ(std::count(scores.begin(), scores.end(), '\n'), 41);
    EXPECT_TRUE(has(scores, ",p0/0.pgm,p0/1.pgm\n"));
    ASSERT_EQ(run(eval + " --folds 5 --out " + at("b"), "BF_THREADS=3 ").code, 0);
    for (const char* file : {"report.json", "scores.csv"}) EXPECT_EQ(read(root / "a" / file), read(root / "b" / file));

    // of one model with itself there is no difference; of one that is wrong in six pairs there is
    const Outcome none =
        run("eval significance " + at("a") + " " + at("b/scores.csv") + " --rounds 200 --out " + at("s"));
    EXPECT_EQ(none.code, 0) << none.output;
    EXPECT_EQ(figure("s", "accuracy p"), 1);
    EXPECT_EQ(figure("s", "AUC A-B"), 0);
    std::string worse = "score,same,fold,accepted,first,second\n", better = worse, other = worse;
    for (int k = 0; k < 40; ++k) {
        const char same = k % 2 ? '0' : '1', wrong = k % 2 ? '1' : '0';
        const std::string tail = std::string(",") + same + "," + std::to_string(1 + k / 8) + ",",
                          names = ",x" + std::to_string(k) + ",\"y,1\"\n";
        better += (k % 2 ? "0.1" : "0.9") + tail + same + names;
        worse += (k < 6 ? (k % 2 ? "0.95" : "0.05") : k % 2 ? "0.1" : "0.9") + tail + (k < 6 ? wrong : same) + names;
        other += "0.5" + tail + same + (k == 7 ? ",x7,\"y,2\"\n" : names);
    }
    std::ofstream(root / "better.csv") << better;
    std::ofstream(root / "worse.csv") << worse;
    std::ofstream(root / "other.csv") << other;
    ASSERT_EQ(
        run("eval significance " + at("better.csv") + " " + at("worse.csv") + " --rounds 500 --out " + at("s")).code,
        0);
    EXPECT_NEAR(figure("s", "accuracy p"), 2 * std::pow(0.5, 6), 1e-12);
    EXPECT_NEAR(figure("s", "accuracy A-B"), 0.15, 1e-12);
    EXPECT_GT(figure("s", "AUC A-B", "low"), 0);
    const auto refuse = [&](const std::string& a, const std::string& b, const std::string& part) {
        const Outcome r = run("eval significance " + at(a) + " " + at(b));
        EXPECT_EQ(r.code, 3) << r.output;
        EXPECT_TRUE(has(r.output, part)) << r.output;
    };
    refuse("better.csv", "other.csv", "different pairs, the first in line 9: x7 and y,1 against x7 and y,2");
    refuse("better.csv", "a", "different pairs");
    refuse("better.csv", "pairs.txt", "not a score file");
    refuse("images", "a", "holds neither scores.csv nor queries.csv");
    std::ofstream(root / "bad.csv") << better << "0.5,1,1,2,x,y\n";
    refuse("bad.csv", "better.csv", "bad.csv:42");
}

TEST_F(Eval, ViewOneVideosAndBadLists) {
    for (int p = 0; p < 6; ++p)
        for (int i = 1; i <= 3; ++i) {
            char name[64];
            std::snprintf(name, sizeof name, "lfw/P%d/P%d_%04d.jpg", p, p, i);  // the content tells the format
            image(name, p, i);
            image("ytf/P" + std::to_string(p) + "/" + std::to_string(i) + "/frame1.pgm", p, i);
            image("ytf/P" + std::to_string(p) + "/" + std::to_string(i) + "/frame2.pgm", p, i + 1);
        }
    std::ofstream(root / "train.txt") << "2\nP0\t1\t2\nP1\t1\t2\nP0\t1\tP1\t1\nP1\t2\tP2\t1\n";
    std::ofstream(root / "test.txt") << "2\nP3\t1\t2\nP4\t1\t2\nP3\t1\tP4\t1\nP4\t2\tP5\t1\n";
    const std::string view1 = "eval --pixels --kind lfw_view1 --root " + at("lfw") + " --pairs " + at("test.txt");
    const Outcome o = run(view1 + " --train-pairs " + at("train.txt") + " --out " + at("v"));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "protocol: LFW View 1")) << o.output;
    EXPECT_TRUE(has(o.output, "pairs: 4 (2 same)")) << o.output;
    EXPECT_TRUE(has(o.output, "by_subject")) << o.output;
    EXPECT_FALSE(fs::exists(root / "v/eval.json"));
    EXPECT_EQ(run(view1).code, 2);

    std::string splits = "split number, pair, first, second, same\n";
    for (int s = 1; s <= 3; ++s)
        for (const bool same : {true, false}) {
            const std::string p = "P" + std::to_string(2 * s - 2), q = "P" + std::to_string(2 * s - 1);
            splits += std::to_string(s) + ", 1, " + p + "/1, " + (same ? p : q) + "/2, " + (same ? "1\n" : "0\n");
        }
    std::ofstream(root / "splits.txt") << splits;
    const std::string ytf = "eval --pixels --kind ytf --root " + at("ytf") + " --pairs " + at("splits.txt");
    const Outcome videos = run(ytf + " --out " + at("y"));
    ASSERT_EQ(videos.code, 0) << videos.output;
    EXPECT_TRUE(has(videos.output, "protocol: YTF, 3-fold verification")) << videos.output;
    EXPECT_TRUE(has(videos.output, "mean of its frames")) << videos.output;
    EXPECT_TRUE(has(read(root / "y/scores.csv"), ",P0/1,P0/2\n"));
    for (const char* frame : {"frame1.pgm", "frame2.pgm"}) fs::remove(root / "ytf/P0/2" / frame);
    const Outcome empty = run(ytf);
    EXPECT_EQ(empty.code, 3);
    EXPECT_TRUE(has(empty.output, "P0/2: holds no frame")) << empty.output;
    fs::remove(root / "lfw/P5/P5_0001.jpg");
    const Outcome missing = run(view1 + " --train-pairs " + at("train.txt"));
    EXPECT_EQ(missing.code, 3);
    EXPECT_TRUE(has(missing.output, "1 of") && has(missing.output, "P5_0001.jpg")) << missing.output;
}

TEST_F(Eval, RetrievalBySetsAndEmbeddings) {
    for (int p = 0; p < 5; ++p)
        for (int i = 0; i < 3; ++i) image("set/c" + std::to_string(p) + "/" + std::to_string(i) + ".pgm", p, i);
    image("set/alone/0.pgm", 9, 0);
    const std::string folder = "eval retrieval --set folder --root " + at("set") + " --k 1,2,5 --rounds 200";
    const Outcome o = run(folder + " --pixels --out " + at("r"));
    ASSERT_EQ(o.code, 0) << o.output;
    for (const char* part : {"queries: 16", "labels: 6", "queries without a match: 1", "left out of its own search",
                             "equal distances by the lower index", "MAP@R"})
        EXPECT_TRUE(has(o.output, part)) << part << "\n" << o.output;
    for (const char* file : {"report.json", "figures.csv", "by_class.csv", "recall.svg", "recall.csv", "queries.csv"})
        EXPECT_TRUE(fs::exists(root / "r" / file)) << file;
    EXPECT_TRUE(has(read(root / "r/queries.csv"), "label,recall@1,recall@2,recall@5,r_precision,map_at_r,query\n"));
    const Outcome test = run("eval significance " + at("r") + " " + at("r") + " --rounds 100");
    EXPECT_EQ(test.code, 0) << test.output;
    EXPECT_TRUE(has(test.output, "permutation")) << test.output;

    // a list with embeddings: rows by place, or by the names beside them
    std::ofstream(root / "list.txt") << "c0/0.pgm a\nc0/1.pgm a\nc1/0.pgm b\nc1/1.pgm b\n";
    bf::save_npy(root / "e.npy", bf::Tensor::from<float>({1, 0, 0.9f, 0.1f, 0, 1, 0.1f, 0.9f}, {4, 2}));
    const std::string list = "eval retrieval --set list --k 1 --root " + at("set") + " --list " + at("list.txt") +
                             " --out " + at("l") + " --embeddings " + at("e.npy");
    ASSERT_EQ(run(list).code, 0);
    EXPECT_EQ(figure("l", "Recall@1"), 1);
    std::ofstream(root / "e.txt") << "c0/0.pgm\nc1/0.pgm\nc0/1.pgm\n" + at("set/c1/1.pgm") + "\n";
    ASSERT_EQ(run(list).code, 0);
    EXPECT_EQ(figure("l", "Recall@1"), 0);  // now the pairs of rows belong to images of two labels
    std::ofstream(root / "e.txt") << "c0/0.pgm\nc1/0.pgm\nc0/1.pgm\nelse.pgm\n";
    const Outcome unnamed = run(list);
    EXPECT_EQ(unnamed.code, 3);
    EXPECT_TRUE(has(unnamed.output, "has no row for image")) << unnamed.output;

    std::ofstream(root / "set/list_eval_partition.txt")
        << "4\nimage_name item_id evaluation_status\nc0/0.pgm id_0 query\nc0/1.pgm id_0 gallery\nc1/0.pgm id_1 "
           "gallery\nc1/1.pgm id_2 query\n";
    const Outcome shop = run("eval retrieval --set inshop --pixels --root " + at("set"));
    EXPECT_EQ(shop.code, 0) << shop.output;
    EXPECT_TRUE(has(shop.output, "In-Shop") && has(shop.output, "queries: 2") && has(shop.output, "Recall@40"))
        << shop.output;

    // Cars196: cars_annos.mat goes before cars.txt
    fs::create_directories(root / "set/car_ims");
    for (int i = 1; i <= 6; ++i)
        fs::copy(root / "set/c0/0.pgm", root / ("set/car_ims/00000" + std::to_string(i) + ".jpg"));
    const std::string cars = "eval retrieval --set cars --pixels --k 1 --root " + at("set");
    std::ofstream(root / "set/cars.txt") << "c0/0.pgm 99\nc0/1.pgm 99\n";
    const Outcome by_text = run(cars);
    EXPECT_TRUE(by_text.code == 0 && has(by_text.output, "queries: 2")) << by_text.output;
    fs::copy(fs::path(BF_TEST_DIR) / "data/cars_packed.mat", root / "set/cars_annos.mat");
    const Outcome by_matlab = run(cars);
    EXPECT_TRUE(by_matlab.code == 0 && has(by_matlab.output, "Cars196, ") && has(by_matlab.output, "queries: 4"))
        << by_matlab.output;
    const Outcome given = run(cars + " --list " + at("set/cars.txt"));
    EXPECT_TRUE(given.code == 0 && has(given.output, "queries: 2")) << given.output;

    const auto usage = [&](const std::string& arguments, const std::string& part) {
        const Outcome r = run("eval retrieval " + arguments);
        EXPECT_EQ(r.code, 2) << r.output;
        EXPECT_TRUE(has(r.output, part)) << r.output;
    };
    usage("--set folder --root x", "want one of --model");
    usage("--set folder --root x --pixels --embeddings y.npy", "want one of --model");
    usage("--set list --root x --pixels", "--list FILE");
    usage("--set cub --root x --pixels --list y", "--list does not go");
    usage("--set folder --root x --pixels --k 0", "--k");
    usage("--set birds --root x --pixels", "birds");
    usage("--set folder --root x --pixels --embedings x", "did you mean --embeddings");
    EXPECT_EQ(run("eval retrieval --set folder --pixels --root " + at("nowhere")).code, 3);
}

TEST_F(Eval, RealBinAndLists) {
    const char* variable = std::getenv("BF_SHARED");
    const fs::path shared = fs::path(variable ? variable : BF_SHARED_DIR) / "data";
    if (!fs::exists(shared / "insightface-tiny")) GTEST_SKIP() << "data not found; set BF_SHARED";
    const Outcome bin =
        run("eval --pixels --kind bin --folds 6 --pairs " + (shared / "insightface-tiny/pairs.bin").string());
    EXPECT_EQ(bin.code, 0) << bin.output;
    EXPECT_TRUE(has(bin.output, "pairs: 120 (60 same)")) << bin.output;
    EXPECT_TRUE(has(bin.output, "folds hold pairs of one kind alone")) << bin.output;
    const Outcome one_kind =
        run("eval --pixels --kind bin --pairs " + (shared / "insightface-tiny/pairs_py3_protocol4.bin").string());
    EXPECT_EQ(one_kind.code, 3);
    EXPECT_TRUE(has(one_kind.output, "protocol4.bin: want pairs of both kinds; got 20 same, 0 different"));
    // the same set while training
    std::ofstream(root / "tiny.toml", std::ios::app)
        << "[[val]]\nname = \"tiny\"\nkind = \"bin\"\nfolds = 6\npairs = \""
        << (shared / "insightface-tiny/pairs.bin").string() << "\"\n";
    const Outcome trained = run(train("--set num_step=2 --set verbose=2 --quiet --output " + at("run")));
    EXPECT_EQ(trained.code, 0) << trained.output;
    int evaluated = 0;
    for (const bf::Json& r : bf::read_metrics(root / "run/metrics.jsonl"))
        evaluated += r.string_or("name", "") == "tiny" && r.number_or("pairs", 0) == 120;
    EXPECT_EQ(evaluated, 1);
    const std::string lfw = (shared / "lfw").string();
    const Outcome fold = run("eval --pixels --fold 9 --pairs " + lfw + "/protocol/pairs.txt --root " + lfw + "/images");
    EXPECT_EQ(fold.code, 0) << fold.output;
    EXPECT_TRUE(has(fold.output, "accuracy                 0.57000")) << fold.output;  // as in docs/reproduce.md
    const Outcome orl = run("eval retrieval --set folder --pixels --root " + (shared / "orl").string());
    EXPECT_EQ(orl.code, 0) << orl.output;
    EXPECT_TRUE(has(orl.output, "queries: 320") && has(orl.output, "labels: 32")) << orl.output;
}

}  // namespace
