#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "bf/io/checkpoint.hpp"
#include "bf/train/metrics.hpp"
#include "errors.hpp"

// What the tests of the program share: how it is called, and a run that takes a second.

namespace fs = std::filesystem;

struct Outcome {
    int code;
    std::string output;
};

/// The program with these arguments; `before` is shell text that stands in front of it.
inline Outcome run(const std::string& arguments, const std::string& before = "") {
    const std::string command = before + std::string(BF_PROGRAM) + " " + arguments + " 2>&1";
    Outcome o{0, ""};
    FILE* pipe = popen(command.c_str(), "r");
    char buffer[4096];
    while (const std::size_t n = fread(buffer, 1, sizeof buffer, pipe)) o.output.append(buffer, n);
    const int status = pclose(pipe);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return o;
}

/// The accuracy in what `bf eval --json` prints, after lines of progress; -1: there is none.
inline double accuracy_of(const std::string& output) {
    const std::size_t at = output.find('{');
    if (at == std::string::npos) return -1;
    const bf::Json report = bf::parse_json(output.substr(at), "eval");
    const bf::Json* figures = report.find("figures");
    const bf::Json* accuracy = figures ? figures->find("accuracy") : nullptr;
    return accuracy ? accuracy->number_or("value", -1) : -1;
}

/// A folder of its own for each test, with tiny.toml in it.
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

/// Everything a run leaves that does not hold a time.
inline void expect_same_run(const fs::path& a, const fs::path& b) {
    const auto ca = bf::CheckpointFolder(a / "checkpoints").load_latest(),
               cb = bf::CheckpointFolder(b / "checkpoints").load_latest();
    ASSERT_TRUE(ca && cb);
    ASSERT_EQ(ca->step, cb->step);
    for (const auto& [name, t] : ca->content.tensors) {
        if (name == "session.seconds" || name == "session.metrics") continue;  // hold times and the digits of times
        EXPECT_EQ(std::memcmp(t.raw(), cb->content.tensors.at(name).raw(), t.bytes()), 0) << name;
    }
    const auto ra = bf::read_metrics(a / "metrics.jsonl"), rb = bf::read_metrics(b / "metrics.jsonl");
    ASSERT_EQ(ra.size(), rb.size());
    for (std::size_t i = 0; i < ra.size(); ++i) {
        EXPECT_EQ(ra[i].number_or("step", -1), rb[i].number_or("step", -1));
        for (const char* key : {"accuracy", "loss", "loss_cls", "lr", "grad_norm", "queue", "rows", "mean_age"})
            EXPECT_EQ(ra[i].number_or(key, -1), rb[i].number_or(key, -1)) << key << " of record " << i;
    }
}
