// The program as a user meets it: exit codes, messages, and a run that is killed and resumed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "bf/io/checkpoint.hpp"
#include "bf/io/npy.hpp"
#include "bf/train/metrics.hpp"
#include "config_toml.hpp"

namespace {

namespace fs = std::filesystem;

struct Outcome {
    int code;
    std::string output;
};

Outcome run(const std::string& arguments) {
    const std::string command = std::string(BF_PROGRAM) + " " + arguments + " 2>&1";
    Outcome o{0, ""};
    FILE* pipe = popen(command.c_str(), "r");
    char buffer[4096];
    while (const std::size_t n = fread(buffer, 1, sizeof buffer, pipe)) o.output.append(buffer, n);
    const int status = pclose(pipe);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return o;
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Program : public ::testing::Test {
  protected:
    void SetUp() override {
        root = fs::temp_directory_path() / ("bf_program_" + std::to_string(::getpid()) + "_" +
                                            ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(root);
        fs::create_directories(root);
        std::ofstream(root / "tiny.toml")
            << "network = \"iresnet_small\"\nimage_size = 16\nembedding_size = 16\nbatch_size = 8\ngradient_acc = "
               "2\nscale = 16.0\n"
               "margin_list = [1.0, 0.2, 0.0]\nlr = 0.05\ndropout = 0.1\nnum_step = 24\nfrequent = 4\nverbose = "
               "12\ncheckpoint_every = 6\n"
               "[data]\nidentities = 12\nimages_per_identity = 6\n[broadface]\nqueue = 20\n[augment]\ncrop_pad = "
               "2\nerase = 0.3\n"
               "[[val]]\nname = \"v\"\nidentities = 6\nimages_per_identity = 4\npair_count = 40\n";
    }
    void TearDown() override { fs::remove_all(root); }
    std::string train(const std::string& rest) const { return "train " + (root / "tiny.toml").string() + " " + rest; }
    std::string read(const fs::path& p) const {
        std::ifstream in(p, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    fs::path root;
};

TEST_F(Program, HelpAndVersion) {
    EXPECT_EQ(run("--help").code, 0);
    EXPECT_TRUE(has(run("train --help").output, "--resume"));
    EXPECT_TRUE(has(run("train --help-config").output, "broadface.queue"));
    EXPECT_TRUE(has(run("--version").output, "Eigen"));
    EXPECT_TRUE(has(run("info").output, "r100"));
    EXPECT_EQ(bf::parse_json(run("info --json").output, "info").string_or("kind", ""), "info");
}

TEST_F(Program, WrongUseIsCodeTwoWithTheNearestName) {
    const auto expect = [](const Outcome& o, const std::string& part) {
        EXPECT_EQ(o.code, 2) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(run(""), "bf --help");
    expect(run("trian x.toml"), "did you mean train?");
    expect(run("train --resmue x"), "did you mean --resume?");
    expect(run("train"), "want a configuration");
    expect(run("train " + (root / "none.toml").string()), "cannot be read");
    expect(run(train("--set batch_sise=4")), "did you mean batch_size?");
    expect(run(train("--set broadface.que=4")), "did you mean broadface.queue?");
    expect(run(train("--set batch_size=-3")), "batch_size: got -3");
    expect(run(train("--set batch_size=2.5")), "a whole number");
    expect(run(train("--set loss=arcfase")), "did you mean arcface?");
    expect(run(train("--set data.kind=folder")), "data.root: missing");
    expect(run(train("--set image_size=40")), "multiple of 16");
    expect(run(train("--device cuda --output " + (root / "c").string())), "BF_CUDA");
    std::ofstream(root / "line.toml") << "lr = 0.1\n\nbatch_sise = 3\n";
    expect(run("train " + (root / "line.toml").string()), "line.toml:3");
    std::ofstream(root / "broken.toml") << "lr = \n";
    expect(run("train " + (root / "broken.toml").string()), "broken.toml:1");
    expect(run("eval --pairs x --root y"), "--model");
}

TEST_F(Program, BadInputIsCodeThree) {
    const auto expect = [](const Outcome& o, const std::string& part) {
        EXPECT_EQ(o.code, 3) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    expect(run(train("--set data.kind=folder --set data.root=" + (root / "nobody").string() + " --output " +
                     (root / "r").string())),
           "is not a folder");
    expect(run("embed --model " + (root / "none").string() + " --images . --out x"), "cannot be read");
    std::ofstream(root / "bad.safetensors") << "nonsense that is long enough";
    expect(run("eval --synthetic --model " + (root / "bad.safetensors").string()), "header size");
}

TEST_F(Program, DivergenceIsCodeFour) {
    const Outcome o = run(train(
        "--quiet --set lr=1000 --set momentum=0.99 --set weight_decay=10 --set num_step=400 --set 'val=[]' --output " +
        (root / "r").string()));
    EXPECT_EQ(o.code, 4) << o.output;
    EXPECT_TRUE(has(o.output, "not finite")) << o.output;
}

TEST_F(Program, TrainsEvaluatesEmbedsAndReports) {
    const fs::path out = root / "run";
    const Outcome o = run(train("--output " + out.string()));
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "step 24/24")) << o.output;
    for (const char* name : {"config.toml", "metrics.jsonl", "model.safetensors", "report.html"})
        EXPECT_TRUE(fs::exists(out / name)) << name;
    const auto records = bf::read_metrics(out / "metrics.jsonl");
    EXPECT_EQ(records.back().string_or("kind", ""), "end");
    const std::string page = read(out / "report.html");
    EXPECT_TRUE(has(page, "<svg"));
    EXPECT_FALSE(has(page, "http"));  // self-contained
    EXPECT_EQ(bf::program::to_toml(bf::program::load_config(out / "config.toml")), read(out / "config.toml"));
    EXPECT_EQ(run(train("--output " + out.string())).code, 2);  // never overwrites a run
    const Outcome eval = run("eval --synthetic --json --model " + out.string() + " --out " + (root / "e").string());
    ASSERT_EQ(eval.code, 0) << eval.output;
    EXPECT_GE(bf::parse_json(eval.output, "eval").number_or("accuracy", -1), 0.3);
    EXPECT_TRUE(fs::exists(root / "e/roc.csv"));
    fs::create_directories(root / "images/x");
    std::ofstream(root / "images/x/a.pgm") << "P5\n2 2\n255\nabcd";
    std::ofstream(root / "images/b.pgm") << "P5\n2 2\n255\nwxyz";
    const Outcome embed = run("embed --model " + (out / "model.safetensors").string() + " --images " +
                              (root / "images").string() + " --out " + (root / "emb").string());
    ASSERT_EQ(embed.code, 0) << embed.output;
    EXPECT_EQ(bf::load_npy(root / "emb.npy").shape(), (bf::Shape{2, 16}));
    EXPECT_TRUE(has(read(root / "emb.txt"), "images/b.pgm\n"));
}

/// Everything a run leaves that does not hold a time.
void expect_same_run(const fs::path& a, const fs::path& b) {
    const auto ca = bf::CheckpointFolder(a / "checkpoints").load_latest(),
               cb = bf::CheckpointFolder(b / "checkpoints").load_latest();
    ASSERT_TRUE(ca && cb);
    ASSERT_EQ(ca->step, cb->step);
    for (const auto& [name, t] : ca->content.tensors) {
        if (name == "session.seconds") continue;
        EXPECT_EQ(std::memcmp(t.raw(), cb->content.tensors.at(name).raw(), t.bytes()), 0) << name;
    }
    const auto ra = bf::read_metrics(a / "metrics.jsonl"), rb = bf::read_metrics(b / "metrics.jsonl");
    ASSERT_EQ(ra.size(), rb.size());
    for (std::size_t i = 0; i < ra.size(); ++i) {
        EXPECT_EQ(ra[i].number_or("step", -1), rb[i].number_or("step", -1));
        EXPECT_EQ(ra[i].number_or("accuracy", -1), rb[i].number_or("accuracy", -1)) << "record " << i;
    }
}

TEST_F(Program, KilledAndResumedEqualsUninterrupted) {
    const fs::path whole = root / "whole", cut = root / "cut";
    ASSERT_EQ(run(train("--quiet --output " + whole.string())).code, 0);
    // stopped by SIGTERM some time after the first checkpoint: code 75; then killed hard; then finished
    for (const int signal : {SIGTERM, SIGKILL}) {
        const pid_t child = fork();
        if (child == 0) {
            const std::string config = (root / "tiny.toml").string(), out = cut.string();
            std::freopen("/dev/null", "w", stderr);
            if (signal == SIGTERM)
                execl(BF_PROGRAM, BF_PROGRAM, "train", config.c_str(), "--output", out.c_str(), nullptr);
            else
                execl(BF_PROGRAM, BF_PROGRAM, "train", "--resume", out.c_str(), nullptr);
            _exit(127);
        }
        for (int i = 0; i < 3000 && !(fs::exists(cut / "checkpoints") && !fs::is_empty(cut / "checkpoints")); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        std::this_thread::sleep_for(std::chrono::milliseconds(signal == SIGTERM ? 0 : 300));
        kill(child, signal);
        int status = 0;
        waitpid(child, &status, 0);
        if (signal == SIGTERM && WIFEXITED(status)) {
            EXPECT_TRUE(WEXITSTATUS(status) == 75 || WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
        }
    }
    const Outcome o = run("train --resume " + cut.string());
    ASSERT_EQ(o.code, 0) << o.output;
    expect_same_run(whole, cut);
}

TEST_F(Program, ResultsDoNotDependOnWorkersOrThreads) {
    ASSERT_EQ(run(train("--quiet --output " + (root / "a").string() +
                        " --set num_step=8 --set num_workers=1 --set threads=1"))
                  .code,
              0);
    ASSERT_EQ(run(train("--quiet --output " + (root / "b").string() +
                        " --set num_step=8 --set num_workers=3 --set threads=3"))
                  .code,
              0);
    expect_same_run(root / "a", root / "b");
}

TEST_F(Program, ADamagedCheckpointIsSkippedWithAWarning) {
    const fs::path out = root / "run";
    ASSERT_EQ(run(train("--quiet --output " + out.string())).code, 0);
    const auto newest = bf::CheckpointFolder(out / "checkpoints").list().back();
    std::fstream(newest, std::ios::in | std::ios::out | std::ios::binary).seekp(-3, std::ios::end).put('x');
    const Outcome o = run("train --resume " + out.string());
    EXPECT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "warning: skipped")) << o.output;
    EXPECT_TRUE(has(o.output, "resumed from")) << o.output;
}

TEST(Config, BaseFileAndSettings) {
    const fs::path folder = fs::temp_directory_path() / ("bf_config_" + std::to_string(::getpid()));
    fs::create_directories(folder);
    std::ofstream(folder / "base.toml") << "batch_size = 7\n[broadface]\nqueue = 5\ncompensate = false\n";
    std::ofstream(folder / "top.toml") << "base = \"base.toml\"\nlr = 0.5\n[broadface]\nqueue = 9\n";
    const auto c =
        bf::program::load_config(folder / "top.toml", {"seed=3", "loss=cosface", "broadface.overwrite=true"});
    EXPECT_EQ(c.batch_size, 7);
    EXPECT_EQ(c.broadface.queue, 9);
    EXPECT_FALSE(c.broadface.compensate);
    EXPECT_TRUE(c.broadface.overwrite);
    EXPECT_EQ(c.lr, 0.5);
    EXPECT_EQ(c.seed, 3);
    EXPECT_EQ(c.loss, "cosface");
    std::ofstream(folder / "circle.toml") << "base = \"circle.toml\"\n";
    EXPECT_THROW(bf::program::load_config(folder / "circle.toml"), bf::Error);
    fs::remove_all(folder);
}

}  // namespace
