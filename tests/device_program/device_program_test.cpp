// The program with --device cuda: on a GPU, or on the device that the CPU emulates.
#include "bf/core/device_runtime.hpp"
#include "bf/io/npy.hpp"
#include "bf/io/safetensors.hpp"
#include "device.hpp"
#include "program.hpp"

namespace {

class GpuProgram : public Program {
  protected:
    void SetUp() override {
        if (const std::string reason = no_test_device(); !reason.empty()) GTEST_SKIP() << reason;
        RecordProperty("device", test_device_kind());
        Program::SetUp();
    }
    void TearDown() override {
        if (!IsSkipped()) Program::TearDown();
    }
    fs::path trained(const std::string& name, const std::string& settings) const {
        const Outcome o = run(train("--quiet --set dropout=0.0 " + settings + " --output " + (root / name).string()));
        EXPECT_EQ(o.code, 0) << o.output;
        return root / name;
    }
    double last_loss(const fs::path& folder) const {
        double loss = -1;
        for (const auto& record : bf::read_metrics(folder / "metrics.jsonl"))
            if (record.string_or("kind", "") == "step") loss = record.number_or("loss", -1);
        return loss;
    }
};

TEST_F(GpuProgram, TrainsAsOnTheCpu) {
    const fs::path here = trained("cpu", "--set num_step=8"),
                   there = trained("gpu", "--set num_step=8 --device cuda --set precision=f32"),
                   graph = trained("graph", "--set num_step=8 --device cuda --set precision=f32 --set cuda_graph=true"),
                   narrow = trained("bf16", "--set num_step=8 --device cuda --set precision=bf16");
#ifdef BF_EMULATED_DEVICE
    expect_same_run(there, here);  // the same kernels: the same bits
    EXPECT_EQ(read(there / "model.safetensors"), read(here / "model.safetensors"));
#else
    EXPECT_NEAR(last_loss(there), last_loss(here), 0.1 * last_loss(here));
#endif
    expect_same_run(graph, there);
    EXPECT_EQ(read(graph / "model.safetensors"), read(there / "model.safetensors"));
    EXPECT_NE(read(narrow / "model.safetensors"), read(there / "model.safetensors"));
    EXPECT_NEAR(last_loss(narrow), last_loss(here), 0.1 * last_loss(here));
}

TEST_F(GpuProgram, TheFirstLineSaysWhereAndInWhat) {
    const std::string common = "--set num_step=4 --set 'val=[]' --device cuda --output ";
    EXPECT_TRUE(has(run(train(common + (root / "a").string())).output, "on cuda:0 in bf16,"));
    EXPECT_TRUE(has(run(train("--set precision=tf32 " + common + (root / "b").string())).output, "on cuda:0 in tf32,"));
    const Outcome dropout = run(train("--set cuda_graph=true " + common + (root / "c").string()));
    EXPECT_TRUE(has(dropout.output, "steps run without a graph: ")) << dropout.output;
    EXPECT_TRUE(has(dropout.output, "dropout")) << dropout.output;
}

TEST_F(GpuProgram, SettingsThatExcludeEachOtherAreRefused) {
    const Outcome o = run(train("--device cuda --set autotune=true --output " + (root / "a").string()));
    EXPECT_EQ(o.code, 2);
    EXPECT_TRUE(has(o.output, "deterministic = false")) << o.output;
    EXPECT_FALSE(fs::exists(root / "a"));
}

TEST_F(GpuProgram, ACheckpointGoesOnOnTheOtherDevice) {
    const std::string part =
        " --set precision=f32 --set scheduler=constant --set verbose=4 --set frequent=4 --set num_step=";
    const fs::path cut = trained("cut", "--device cuda" + part + "4");
    const auto resume = [&](const std::string& rest) {
        const Outcome o = run("train --quiet --resume " + cut.string() + " " + rest);
        EXPECT_EQ(o.code, 0) << o.output;
    };
    const fs::path same = trained("same", "--device cuda" + part + "12");
    resume("--device cpu --set num_step=8");
    resume("--device cuda --set num_step=12");
#ifdef BF_EMULATED_DEVICE
    expect_same_run(cut, same);
#else
    EXPECT_NEAR(last_loss(cut), last_loss(same), 0.1 * last_loss(same));
#endif
}

TEST_F(GpuProgram, StoppedAndResumedEqualsUninterrupted) {
    const std::string where = "--device cuda --set cuda_graph=true --set num_step=20";
    const fs::path whole = trained("whole", where), cut = root / "cut";
    // stopped as soon as four steps are recorded, with more of them under way
    const std::string command =
        std::string(BF_PROGRAM) + " " + train("--quiet --set dropout=0.0 " + where + " --output " + cut.string()) +
        " & p=$!; while [ ! -s " + (cut / "metrics.jsonl").string() + " ]; do sleep 0.01; done; kill -TERM $p; wait $p";
    const int status = std::system(("( " + command + " ) >/dev/null 2>&1").c_str());
    EXPECT_EQ(WEXITSTATUS(status), 75);
    const Outcome o = run("train --quiet --resume " + cut.string() + " --device cuda");
    ASSERT_EQ(o.code, 0) << o.output;
    expect_same_run(whole, cut);
}

TEST_F(GpuProgram, EvaluatesAndEmbedsAsOnTheCpu) {
    const fs::path model = trained("run", "");
    // ten faces of two pixels a side, neighbours and others as pairs
    std::ofstream pairs(root / "pairs.txt");
    for (int i = 0; i < 10; ++i) {
        std::ofstream(root / (std::to_string(i) + ".pgm")) << "P5\n2 2\n255\n"
                                                           << char('0' + i) << "aK" << char('z' - 5 * i);
        for (int step = 1; step < 6; ++step) pairs << i << ".pgm " << (i + step) % 10 << ".pgm " << (step < 3) << "\n";
    }
    pairs.close();
    const auto accuracy = [&](const std::string& device) {
        const Outcome o = run("eval --kind list --folds 2 --rounds 0 --json --pairs " + (root / "pairs.txt").string() +
                              " --root " + root.string() + " --model " + model.string() + " --device " + device);
        EXPECT_EQ(o.code, 0) << o.output;
        return accuracy_of(o.output);
    };
    EXPECT_NEAR(accuracy("cuda"), accuracy("cpu"), 0.02);
    EXPECT_EQ(run("eval --synthetic --pixels --device cuda").code, 2);
    std::ofstream(root / "a.pgm") << "P5\n2 2\n255\nabcd";
    std::ofstream(root / "b.pgm") << "P5\n2 2\n255\nwxyz";
    for (const std::string device : {"cpu", "cuda"}) {
        const Outcome o = run("embed --model " + model.string() + " --images " + root.string() + " --out " +
                              (root / device).string() + " --device " + device);
        ASSERT_EQ(o.code, 0) << o.output;
    }
    const bf::Tensor here = bf::load_npy(root / "cpu.npy"), there = bf::load_npy(root / "cuda.npy");
    ASSERT_EQ(here.shape(), there.shape());
    for (std::int64_t i = 0; i < here.numel(); ++i)
        EXPECT_NEAR(there.data<float>()[i], here.data<float>()[i], 1e-3 * (1 + std::abs(here.data<float>()[i])));
}

TEST_F(GpuProgram, DivergenceIsCodeFour) {
    const Outcome o =
        run(train("--quiet --device cuda --set lr=1000 --set momentum=0.99 --set weight_decay=10 "
                  "--set num_step=400 --set 'val=[]' --output " +
                  (root / "r").string()));
    EXPECT_EQ(o.code, 4) << o.output;
    EXPECT_TRUE(has(o.output, "not finite")) << o.output;
}

/// Without a device: one clear error, no run folder, no quiet fall-back.
TEST_F(Program, WithoutADeviceCudaIsRefused) {
    const Outcome o = run(train("--device cuda --output " + (root / "r").string()), "CUDA_VISIBLE_DEVICES= ");
    EXPECT_EQ(o.code, 2) << o.output;
    EXPECT_TRUE(has(o.output, "cuda")) << o.output;
    EXPECT_TRUE(has(o.output, "device = \"cpu\"")) << o.output;
    EXPECT_FALSE(fs::exists(root / "r"));
    for (const char* command :
         {"eval --synthetic --model x --device cuda", "embed --images . --model x --out y --device cuda"})
        EXPECT_EQ(run(command, "CUDA_VISIBLE_DEVICES= ").code, 2) << command;
    const Outcome tf32 = run(train("--set precision=tf32 --output " + (root / "r").string()));
    EXPECT_EQ(tf32.code, 2);
    EXPECT_TRUE(has(tf32.output, "tf32 wants device = \"cuda\"")) << tf32.output;
    EXPECT_FALSE(fs::exists(root / "r"));
    if (bf::cpu_has_bf16()) return;
    const Outcome bf16 = run(train("--set precision=bf16 --output " + (root / "r").string()));
    EXPECT_EQ(bf16.code, 2);
    EXPECT_TRUE(has(bf16.output, "this processor has no bf16")) << bf16.output;
    EXPECT_FALSE(fs::exists(root / "r"));
}

}  // namespace
