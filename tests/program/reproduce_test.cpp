// bf reproduce: lists, plans, trains what is missing, goes on where it was stopped, and its files.
#include "reproduce.hpp"

#include <signal.h>

#include <chrono>
#include <set>
#include <thread>

#include "config_toml.hpp"
#include "program.hpp"

namespace {

const fs::path& configs() {
    static const fs::path folder = fs::path(BF_TEST_DIR).parent_path() / "configs";
    return folder;
}

class Reproduce : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        fs::create_directories(root / "experiments");
        write_experiment("");
    }
    void write_experiment(const std::string& second_row, const std::string& top = "") {
        std::ofstream(root / "experiments/tiny.toml")
            << "title = \"A tiny experiment\"\nquestion = \"Does it run?\"\nseeds = [1, 2]\nbaseline = \"plain\"\n"
               "context = \"R100 on MS1MV2\"\nimages = 160\nidentities = 12\n"
            << top
            << "[config]\nbase = \"../tiny.toml\"\nnum_step = 12\nverbose = 4\ncheckpoint_every = 4\n"
               "[config.broadface]\nqueue = 0\n"
               "[[chart]]\nx = \"broadface.queue\"\nseries = \"broadface.compensate\"\n"
               "[[row]]\nname = \"plain\"\nlabel = \"no <queue>\"\n"
               "[[row]]\nname = \"queue\"\nset = [\"broadface.queue=20\""
            << second_row
            << "]\n[[compare]]\nrow = \"queue\"\nwith = \"plain\"\n"
               "[[full]]\nname = \"large\"\nconfig = \"../full.toml\"\npaper = [\n"
               "{ what = \"IJB-B TAR@FAR=1e-5\", value = 81.25, status = \"confirmed\", source = \"page\" },\n"
               "{ what = \"LFW accuracy %\", value = 77.75, status = \"unconfirmed\" },\n]\n";
        std::ofstream(root / "full.toml")
            << "base = \"tiny.toml\"\nval = []\n[data]\nkind = \"record\"\nroot = \"faces\"\n";
    }
    std::string reproduce(const std::string& rest, const std::string& out = "out") const {
        return "reproduce tiny --experiments " + (root / "experiments").string() + " --output " +
               (root / out).string() + " " + rest;
    }
    bf::Json ledger(const std::string& out = "out") const {
        return bf::parse_json(read(root / out / "results.json"), "ledger");
    }
    std::set<std::string> run_folders(const std::string& out = "out") const {
        std::set<std::string> names;
        for (const auto& entry : fs::directory_iterator(root / out))
            if (entry.is_directory()) names.insert(entry.path().filename().string());
        return names;
    }
    /// What of a ledger does not depend on time.
    std::set<std::string> results(const std::string& out = "out") const {
        std::set<std::string> all;
        const bf::Json whole = ledger(out);
        for (const bf::Json& r : whole.find("runs")->array) {
            std::string line = r.string_or("row", "") + " " + std::to_string(r.number_or("seed", 0)) + " " +
                               r.string_or("hash", "") + " " + r.string_or("status", "") + " " +
                               r.string_or("commit", "") + " " + r.string_or("command", "").substr(0, 17);
            for (const bf::Json& e : r.find("evals")->array)
                for (const auto& [key, value] : e.object) line += " " + key + "=" + value.string;
            all.insert(line);
        }
        return all;
    }
};

TEST_F(Reproduce, ListsAndEveryConfigurationIsRead) {
    const Outcome o = run("reproduce --list --experiments " + (configs() / "experiments").string());
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "ablation-queue  ")) << o.output;
    int files = 0;
    for (const char* folder : {"", "paper"})
        for (const auto& entry : fs::directory_iterator(configs() / folder)) {
            if (entry.path().extension() != ".toml") continue;
            ++files;
            const bf::RunConfig c = bf::program::load_config(entry.path());
            EXPECT_EQ(bf::program::to_toml(bf::program::parse_config(bf::program::to_toml(c), "again")),
                      bf::program::to_toml(c))
                << entry.path();
        }
    EXPECT_GT(files, 20);
    for (const auto& x : bf::program::load_experiments(configs() / "experiments"))
        for (const char* scale : {"small", "full"}) {
            if ((std::string(scale) == "full" ? x.full : x.small).empty()) continue;
            bf::program::ReproduceArguments a;
            a.name = x.name;
            a.scale = scale;
            std::vector<std::string> missing;
            const auto runs = bf::program::plan_runs(x, a, missing);
            std::set<std::string> folders;
            for (const auto& r : runs) folders.insert(r.folder.string());
            EXPECT_EQ(folders.size(), runs.size()) << x.name;
            EXPECT_EQ(missing.empty(), std::string(scale) == "small") << x.name;
            // a row is another run than the others, not only by its name
            std::set<std::string> hashes;
            for (const auto& r : runs) hashes.insert(r.hash);
            EXPECT_EQ(hashes.size(), runs.size()) << x.name << " " << scale;
        }
}

TEST_F(Reproduce, TheSameRunHasTheSameHashWhereverItIsTrained) {
    const auto x = bf::program::load_experiment(root / "experiments", "tiny");
    bf::program::ReproduceArguments a;
    a.name = "tiny";
    std::vector<std::string> missing;
    const auto before = bf::program::plan_runs(x, a, missing);
    a.output = "elsewhere";
    a.threads = 3;
    a.seeds = {2};
    const auto after = bf::program::plan_runs(x, a, missing);
    ASSERT_EQ(before.size(), 4u);
    ASSERT_EQ(after.size(), 2u);
    EXPECT_EQ(after[0].hash, before[2].hash);
    EXPECT_EQ(after[0].config.threads, 3);
    EXPECT_NE(before[0].hash, before[1].hash);
    EXPECT_NE(before[0].hash, before[2].hash);
}

TEST_F(Reproduce, TrainsWhatIsMissingAndWritesTheTables) {
    const Outcome dry = run(reproduce("--dry-run"));
    EXPECT_EQ(dry.code, 0) << dry.output;
    for (const char* part : {"missing", "4 of 4 runs", "time ", "disk ", "memory ", "activations"})
        EXPECT_TRUE(has(dry.output, part)) << part << "\n" << dry.output;
    EXPECT_FALSE(fs::exists(root / "out"));

    // one row alone: the table stands, and says what is missing
    const Outcome first = run(reproduce("--only queue --seeds 2 --quiet"));
    ASSERT_EQ(first.code, 0) << first.output;
    EXPECT_TRUE(has(first.output, "1 of 2 runs are finished; runs missing: 1")) << first.output;
    const Outcome o = run(reproduce(""));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "4 of 4 runs are finished.")) << o.output;
    EXPECT_TRUE(has(o.output, "(4 of 4)") || has(o.output, "(3 of 4)")) << o.output;
    EXPECT_EQ(ledger().find("runs")->array.size(), 4u);
    const bf::Json whole = ledger();
    for (const bf::Json& r : whole.find("runs")->array) {
        EXPECT_EQ(r.string_or("status", ""), "ours-measured");
        EXPECT_FALSE(r.string_or("commit", "").empty());
        EXPECT_TRUE(has(r.string_or("command", ""), "bf reproduce tiny"));
        EXPECT_GT(r.number_or("seconds", 0), 0);
        // three evaluations of the set, and as many looks at the queue where there is one
        EXPECT_EQ(r.find("evals")->array.size(), r.string_or("row", "") == "queue" ? 6u : 3u);
        EXPECT_EQ(r.find("last")->number_or("step", 0), 12);
        EXPECT_GE(r.find("best")->find("accuracy")->number_or("value", 0), r.find("last")->number_or("accuracy", 1));
    }
    const std::string curve = (root / "out/curve-learning-curves-mean-over-seeds-accuracy.csv").string();
    EXPECT_EQ(run("plot " + curve + " --out " + (root / "c.svg").string()).code, 0);
    EXPECT_TRUE(has(read(root / "c.svg"), "Learning") || has(read(root / "c.svg"), "accuracy"));
    const std::string table = read(root / "out/table.md"), page = read(root / "out/index.html"),
                      csv = read(root / "out/table.csv");
    for (const char* part : {"| no <queue> | 2 of 2 |", "within the noise", "For context alone: the paper's numbers",
                             "queue - no <queue>", "81.25", "--only queue"})
        EXPECT_TRUE(has(table, part) || (std::string(part) == "within the noise" && has(table, "better")) ||
                    (std::string(part) == "within the noise" && has(table, "worse")))
            << part << "\n"
            << table;
    EXPECT_FALSE(has(table, "77.75"));  // not confirmed
    EXPECT_TRUE(has(page, "no &lt;queue&gt;"));
    EXPECT_TRUE(has(page, "<svg"));
    EXPECT_FALSE(has(page, "http"));
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 2 * 2);

    // nothing is missing: nothing is trained, and the plan says so
    const auto folders = run_folders();
    const std::string before = read(root / "out/results.json");
    const Outcome again = run(reproduce(""));
    EXPECT_FALSE(has(again.output, "step ")) << again.output;
    EXPECT_EQ(read(root / "out/results.json"), before);
    EXPECT_TRUE(has(run(reproduce("--dry-run")).output, "0 of 4 runs"));

    // a changed row is trained again, the others are not
    write_experiment(", \"broadface.compensate=false\"");
    ASSERT_EQ(run(reproduce("--seeds 1 --quiet")).code, 0);
    EXPECT_EQ(run_folders().size(), folders.size() + 1);
    EXPECT_EQ(ledger().find("runs")->array.size(), 5u);
    write_experiment("");

    // a ledger that is lost or damaged is made again
    const auto all = results();
    fs::remove(root / "out/results.json");
    ASSERT_EQ(run(reproduce("")).code, 0);
    EXPECT_EQ(results(), all);
    fs::resize_file(root / "out/results.json", 300);
    const Outcome damaged = run(reproduce(""));
    EXPECT_EQ(damaged.code, 0) << damaged.output;
    EXPECT_TRUE(has(damaged.output, "made again from the runs' folders")) << damaged.output;
    EXPECT_FALSE(has(damaged.output, "step "));
    EXPECT_TRUE(fs::exists(root / "out/results.json.damaged"));
    EXPECT_EQ(results(), all);
    std::ofstream(root / "out/results.json") << "{\"runs\":[{\"row\":\"plain\"}]}";
    EXPECT_EQ(run(reproduce("--quiet")).code, 0);
    EXPECT_EQ(results(), all);
}

TEST_F(Reproduce, StoppedAndResumedEqualsUninterrupted) {
    ASSERT_EQ(run(reproduce("--quiet", "whole")).code, 0);
    for (int round = 0; round < 2; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            const std::string experiments = (root / "experiments").string(), out = (root / "out").string();
            std::freopen((root / ("log" + std::to_string(round))).c_str(), "w", stderr);
            std::freopen("/dev/null", "w", stdout);
            execl(BF_PROGRAM, BF_PROGRAM, "reproduce", "tiny", "--experiments", experiments.c_str(), "--output",
                  out.c_str(), nullptr);
            _exit(127);
        }
        for (int i = 0; i < 3000; ++i) {
            int folders = 0;
            if (fs::exists(root / "out"))
                for (const auto& entry : fs::directory_iterator(root / "out"))
                    folders += fs::exists(entry.path() / "checkpoints");
            if (folders > round) break;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        kill(child, SIGTERM);
        int status = 0;
        waitpid(child, &status, 0);
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 75) {
            EXPECT_TRUE(has(read(root / ("log" + std::to_string(round))), "the same command goes on"));
        } else {
            EXPECT_EQ(WEXITSTATUS(status), 0);
        }
    }
    ASSERT_EQ(run(reproduce("--quiet")).code, 0);
    EXPECT_EQ(results(), results("whole"));
    for (const std::string& name : run_folders("whole")) expect_same_run(root / "whole" / name, root / "out" / name);
}

TEST_F(Reproduce, WrongNamesAndMissingData) {
    const auto expect = [](const Outcome& o, int code, const std::string& part) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(run("reproduce"), 2, "--list names all");
    expect(run("reproduce tny --experiments " + (root / "experiments").string()), 2, "did you mean tiny?");
    expect(run("reproduce tiny --experiments " + (root / "none").string()), 2, "is not a folder of experiments");
    expect(run(reproduce("--only quee")), 2, "did you mean queue?");
    expect(run(reproduce("--data x")), 2, "goes with --scale full");
    expect(run(reproduce("--scale full")), 2, "wants --data DIR");
    expect(run(reproduce("--scale medium")), 2, "--scale");
    write_experiment(", \"broadface.que=3\"");
    expect(run(reproduce("")), 2, "did you mean broadface.queue?");
    write_experiment("", "metrcs = [\"accuracy\"]\n");
    expect(run(reproduce("")), 2, "did you mean metrics?");
    write_experiment("", "metrics = [\"recall\"]\n");
    expect(run(reproduce("")), 2, "unknown: recall");
    write_experiment("");
    const Outcome o = run(reproduce("--scale full --data " + root.string()));
    expect(o, 3, (root / "faces/train.rec").string() + ": the training images");
    expect(o, 3, "lfw.bin");
    const Outcome dry = run(reproduce("--scale full --dry-run --data " + root.string()));
    expect(dry, 0, "missing below");
    expect(dry, 0, "train.rec");
    EXPECT_FALSE(fs::exists(root / "out"));
}

TEST_F(Reproduce, TheFullScaleTakesRecordsAndBinsAndWhatEvalWrote) {
    const fs::path tiny = fs::path(BF_SHARED_DIR) / "data/insightface-tiny";
    if (!fs::exists(tiny / "train.rec")) GTEST_SKIP() << "no shared data";
    fs::create_directories(root / "data/faces");
    for (const char* file : {"train.rec", "train.idx", "property"}) fs::copy(tiny / file, root / "data/faces" / file);
    fs::copy(tiny / "pairs.bin", root / "data/faces/lfw.bin");
    const std::string full = "--scale full --quiet --data " + (root / "data").string();
    const Outcome o = run(reproduce(full));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "## LFW accuracy %")) << o.output;
    EXPECT_TRUE(has(o.output, "| 81.25 | - | - |")) << o.output;  // paper, ours, difference
    EXPECT_TRUE(has(o.output, "bf eval ijb --set ijbb --root " + (root / "data/IJBB").string())) << o.output;
    EXPECT_FALSE(has(o.output, "77.75")) << o.output;
    const auto folders = run_folders();
    ASSERT_EQ(folders.size(), 1u);
    fs::create_directories(root / "out" / *folders.begin() / "eval/ijbb");
    std::ofstream(root / "out" / *folders.begin() / "eval/ijbb/report.json")
        << "{\"figures\":{\"TAR@FAR=1e-5\":{\"value\":0.8}}}";
    // data in another folder, and one set more: the same run
    fs::rename(root / "data", root / "moved");
    fs::copy(tiny / "pairs.bin", root / "moved/faces/cfp_fp.bin");
    const Outcome again = run(reproduce("--scale full --data " + (root / "moved").string()));
    ASSERT_EQ(again.code, 0) << again.output;
    EXPECT_FALSE(has(again.output, "step ")) << again.output;
    EXPECT_TRUE(has(again.output, "| 81.25 | 80.00 | -1.25 |")) << again.output;
    EXPECT_EQ(run_folders(), folders);
}

}  // namespace
