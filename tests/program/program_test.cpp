// The program as a user meets it: exit codes, messages, and a run that is killed and resumed.
#include "program.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "bf/io/npy.hpp"
#include "bf/kernels/cpu_backend.hpp"
#include "bf/train/metrics.hpp"
#include "config_toml.hpp"

namespace {

TEST_F(Program, HelpAndVersion) {
    EXPECT_EQ(run("--help").code, 0);
    EXPECT_TRUE(has(run("train --help").output, "--resume"));
    EXPECT_TRUE(has(run("train --help-config").output, "broadface.queue"));
    EXPECT_TRUE(has(run("--version").output, "Eigen"));
    EXPECT_TRUE(has(run("info").output, "r100"));
    EXPECT_TRUE(has(run("info").output, bf::cpu_backend().str()));
    const Outcome doctor = run("doctor");
    EXPECT_EQ(doctor.code, 0) << doctor.output;
    EXPECT_TRUE(has(doctor.output, "training: on the cpu yes")) << doctor.output;
#ifdef BF_EMULATED_DEVICE
    EXPECT_TRUE(has(doctor.output, "emulates a device on the cpu")) << doctor.output;
    EXPECT_TRUE(has(doctor.output, "on a GPU no")) << doctor.output;
#endif
    EXPECT_EQ(bf::parse_json(run("doctor --json").output, "doctor").string_or("kind", ""), "doctor");
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
    expect(run("info", "BF_CPU_CONV=fast "), "BF_CPU_CONV: got \"fast\", want auto, own or onednn");
    expect(run("train"), "want a configuration");
    expect(run("train " + (root / "none.toml").string()), "cannot be read");
    expect(run(train("--set batch_sise=4")), "did you mean batch_size?");
    expect(run(train("--set broadface.que=4")), "did you mean broadface.queue?");
    expect(run(train("--set batch_size=-3")), "batch_size: got -3");
    expect(run(train("--set batch_size=2.5")), "a whole number");
    expect(run(train("--set loss=arcfase")), "did you mean arcface?");
    expect(run(train("--set data.kind=folder")), "data.root: missing");
    expect(run(train("--set image_size=40")), "multiple of 16");
    const std::string on_gpu = train("--device cuda --output " + (root / "c").string());
#ifdef BF_HAVE_CUDA
    expect(run(on_gpu, "CUDA_VISIBLE_DEVICES= "), "cuda:0 is not there; this process sees 0 GPUs");
#else
    expect(run(on_gpu), "cuda is not part of this build; hint: configure with -DBF_CUDA=ON");
#endif
    EXPECT_FALSE(fs::exists(root / "c"));
    std::ofstream(root / "line.toml") << "lr = 0.1\n\nbatch_sise = 3\n";
    expect(run("train " + (root / "line.toml").string()), "line.toml:3");
    std::ofstream(root / "broken.toml") << "lr = \n";
    expect(run("train " + (root / "broken.toml").string()), "broken.toml:1");
    expect(run("eval --pairs x --root y"), "--model");
    expect(run("eval --pairs x --root y --pixels --folds 0"), "--folds");
    expect(run("eval --pairs x --root y --pixels --fold -1"), "--fold");
    expect(run("eval --synthetic --pixels --fold 3"), "--fold goes with --kind lfw");
    expect(run("eval --pairs x --root y --pixels --kind list --fold 3"), "--fold goes with --kind lfw");
    expect(run("eval --synthetic --pixels --model x"), "both --pixels and --model");
    expect(run("embed --model x --images . --out " + (root / "no/folder/e").string()), "no folder");
    expect(run("train --resume x --output y"), "--output does not go with --resume");
    // a configuration of the user's is not written over
    fs::create_directories(root / "mine");
    fs::copy_file(root / "tiny.toml", root / "mine/config.toml");
    const std::string before = read(root / "mine/config.toml");
    expect(run("train " + (root / "mine/config.toml").string() + " --output " + (root / "mine").string()),
           "holds config.toml already");
    EXPECT_EQ(read(root / "mine/config.toml"), before);
    fs::create_directories(root / "d/arcface-seed1");
    std::ofstream(root / "d/arcface-seed1/thesis.txt") << "not a run";
    expect(run("demo --quick --seeds 1 --output " + (root / "d").string()), "no run of a demo");
    EXPECT_TRUE(fs::exists(root / "d/arcface-seed1/thesis.txt"));
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
    const auto model = [&](const char* network, const char* dim, const char* size) {
        bf::save_safetensors(root / "m.safetensors", {{"fc.weight", bf::full({16, 1024}, 0)}},
                             {{"bf.network", network}, {"bf.embedding_size", dim}, {"bf.image_size", size}});
        return run("eval --synthetic --model " + (root / "m.safetensors").string());
    };
    expect(model("iresnet_small", "16", "100000000"), "image_size 100000000");
    expect(model("iresnet_small", "0", "32"), "embedding_size 0");
    expect(model("r1000", "16", "32"), "unknown name");
    expect(model("r200", "16", "1024"), "want [16, 2097152]");
    expect(model("iresnet_small", "16", "32"), "tensor missing");
}

TEST_F(Program, DivergenceIsCodeFour) {
    const Outcome o = run(train(
        "--quiet --set lr=1000 --set momentum=0.99 --set weight_decay=10 --set num_step=400 --set 'val=[]' --output " +
        (root / "r").string()));
    EXPECT_EQ(o.code, 4) << o.output;
    EXPECT_TRUE(has(o.output, "not finite")) << o.output;
}

TEST_F(Program, AFileSizeLimitIsAnErrorWithAHint) {
    const fs::path out = root / "r";
    const Outcome o = run(train("--quiet --output " + out.string()), "ulimit -f 64; ");
    EXPECT_EQ(o.code, 1) << o.output;
    EXPECT_TRUE(has(o.output, "File too large")) << o.output;
    for (const auto& entry : fs::recursive_directory_iterator(out))
        EXPECT_FALSE(has(entry.path().filename().string(), ".tmp-")) << entry.path();
    EXPECT_EQ(run("train --quiet --resume " + out.string()).code, 0);  // and the run goes on where there is room
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
    EXPECT_GE(accuracy_of(eval.output), 0.3);
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

TEST_F(Program, OtherMemoriesTrainAndResume) {
    const std::string quick = " --set num_step=12 --set dropout=0.0 ";
    ASSERT_EQ(run(train("--quiet --output " + (root / "plain").string() + quick + "--set broadface.queue=0")).code, 0);
    for (const std::string memory : {"xbm", "vpl"}) {
        const fs::path whole = root / (memory + "_whole"), cut = root / (memory + "_cut");
        const std::string settings = "--set memory=" + memory + " --set " + memory + ".queue=20 --set " + memory +
                                     ".start_step=2" + (memory == "vpl" ? " --set vpl.age_limit=3" : "") + quick;
        const Outcome o = run(train("--output " + whole.string() + " " + settings));
        ASSERT_EQ(o.code, 0) << o.output;
        EXPECT_TRUE(has(o.output, memory + " with queue 20")) << o.output;
        EXPECT_TRUE(has(o.output, "queue 20/20")) << o.output;
        const std::string metrics = read(whole / "metrics.jsonl");
        EXPECT_TRUE(has(metrics, "\"kind\":\"queue\"") && has(metrics, "cos_plain")) << metrics;
        EXPECT_EQ(has(metrics, "\"kind\":\"pairs\""), memory == "xbm") << metrics;
        const auto at_end = [](const fs::path& folder) {
            return bf::CheckpointFolder(folder / "checkpoints").load_latest()->content.tensors;
        };
        EXPECT_TRUE(at_end(whole).count(memory + ".queue.embeddings"));
        const bf::Tensor w = at_end(whole).at("classifier.weight"),
                         plain = at_end(root / "plain").at("classifier.weight");
        EXPECT_NE(std::memcmp(w.raw(), plain.raw(), w.bytes()), 0);
        // from the checkpoint of step 6 on, in a second process
        fs::copy(whole, cut, fs::copy_options::recursive);
        fs::remove(bf::CheckpointFolder(cut / "checkpoints").list().back());
        const Outcome again = run("train --quiet --resume " + cut.string());
        ASSERT_EQ(again.code, 0) << again.output;
        expect_same_run(whole, cut);
    }
    const Outcome endless =
        run(train("--output " + (root / "none").string() + " --set memory=vpl --set vpl.age_limit=0"));
    EXPECT_EQ(endless.code, 2) << endless.output;
    EXPECT_TRUE(has(endless.output, "vpl.queue: 0 stands for age_limit")) << endless.output;
    // another memory goes on from there, empty at first
    const Outcome other = run("train --resume " + (root / "plain").string() +
                              " --set num_step=16 --set memory=xbm --set xbm.queue=20 --set xbm.start_step=0");
    EXPECT_EQ(other.code, 0) << other.output;
    EXPECT_TRUE(has(other.output, "changed: memory = \"xbm\"")) << other.output;
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

TEST_F(Program, ResumeGoesOnOnlyFromWhatIsThere) {
    const fs::path out = root / "run";
    ASSERT_EQ(run(train("--quiet --set num_step=12 --set 'val=[]' --output " + out.string())).code, 0);
    const std::string resume = "train --resume " + out.string() + " --quiet ";
    const auto expect = [&](const std::string& settings, int code, const std::string& part) {
        const Outcome o = run(resume + settings);
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    };
    // what cannot be continued is refused, what can is done and told
    expect("--set batch_size=4", 2, "batch_size cannot change in a run; got 4, want 8");
    expect("--set optimizer=adamw", 2, "optimizer cannot change");
    expect("--set data.identities=13", 2, "data.identities cannot change");
    EXPECT_TRUE(fs::exists(out / "model.safetensors"));
    const Outcome more =
        run("train --resume " + out.string() + "/ --set num_step=18 --set broadface.queue=30 --set lr=0.01");
    EXPECT_EQ(more.code, 0) << more.output;
    for (const char* part : {"changed: num_step = 18 (was 12)", "changed: broadface.queue = 30 (was 20)",
                             "changed: lr = 0.01 (was 0.05)", "step 18/18"})
        EXPECT_TRUE(has(more.output, part)) << more.output;
    EXPECT_TRUE(has(read(out / "report.html"), "<h1>run</h1>"));  // a trailing slash is no empty name
    // no second trainer in the folder, while one holds it
    {
        const int lock = ::open((out / ".lock").c_str(), O_RDWR);
        ASSERT_EQ(::flock(lock, LOCK_EX | LOCK_NB), 0);
        expect("", 2, "another process");
        ::close(lock);
    }
    // reading a run leaves a live trainer's temporary file alone
    std::ofstream(out / "checkpoints/step-000000019.safetensors.tmp-1") << "half";
    fs::remove(out / "model.safetensors");
    EXPECT_EQ(run("eval --synthetic --model " + out.string()).code, 0);
    EXPECT_TRUE(fs::exists(out / "checkpoints/step-000000019.safetensors.tmp-1"));
    // nothing intact: nothing is written
    for (const auto& file : bf::CheckpointFolder(out / "checkpoints").list()) fs::resize_file(file, 100);
    const std::string metrics = read(out / "metrics.jsonl");
    expect("", 3, "no checkpoint is intact");
    EXPECT_EQ(read(out / "metrics.jsonl"), metrics);
}

TEST_F(Program, AFinishedRunResumedIsTheSame) {
    const fs::path out = root / "run";
    ASSERT_EQ(run(train("--quiet --output " + out.string())).code, 0);
    const auto kinds = [&] {
        std::string all;
        for (const auto& r : bf::read_metrics(out / "metrics.jsonl"))
            all += r.string_or("kind", "") + std::to_string(r.number_or("step", 0)) + "\n";
        return all;
    };
    const std::string before = kinds(), model = read(out / "model.safetensors");
    ASSERT_EQ(run("train --quiet --resume " + out.string()).code, 0);
    EXPECT_EQ(kinds(), before);
    EXPECT_EQ(read(out / "model.safetensors"), model);
}

TEST_F(Program, FoldersOfImagesAreComparedAndUnreadableOnesListed) {
    for (int i = 0; i < 24; ++i) {
        const fs::path file = root / "images" / ("p" + std::to_string(i / 6)) / (std::to_string(10 + i) + ".pgm");
        fs::create_directories(file.parent_path());
        std::ofstream(file) << "P5\n2 2\n255\n" << std::string(4, static_cast<char>(40 + i));
    }
    std::ofstream(root / "images/p0/10.pgm") << "broken";
    const std::string program = fs::absolute(BF_PROGRAM).string(), out = (root / "run").string();
    const auto in_root = [&](const std::string& arguments) {
        const Outcome o = run("--version >/dev/null; cd " + root.string() + " && " + program + " " + arguments);
        return o;
    };
    const Outcome o = in_root(
        "train tiny.toml --set data.kind=folder --set data.root=images --set 'val=[]' --set "
        "num_step=6 --set data.max_bad_share=0.1 --set broadface.queue=8 --output run");
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "warning: ") && has(o.output, "p0/10.pgm")) << o.output;
    EXPECT_TRUE(has(read(root / "run/bad_images.txt"), "p0/10.pgm"));
    EXPECT_TRUE(has(o.output, "-bound: ") && has(o.output, "2 workers can give ")) << o.output;
    double counted = 0;
    for (const auto& r : bf::read_metrics(root / "run/metrics.jsonl"))
        if (r.string_or("kind", "") == "step") {
            EXPECT_EQ(r.string_or("bound", ""), r.number_or("data_wait", -1) > 0.1 ? "loader" : "compute");
            EXPECT_NEAR(r.number_or("loader_images_per_s", 0),
                        2e3 / (r.number_or("decode_ms", 0) + r.number_or("augment_ms", 0)), 1);
        }
    for (const auto& r : bf::read_metrics(root / "run/metrics.jsonl"))
        counted = std::max(counted, r.number_or("bad_images", 0));
    EXPECT_EQ(counted, 1);
    // from another folder, and with the images in another place
    EXPECT_EQ(run("train --quiet --resume " + out + " --set num_step=7").code, 0);
    fs::rename(root / "images", root / "moved");
    EXPECT_EQ(run("train --quiet --resume " + out + " --set data.root=" + (root / "moved").string()).code, 0);
    // the limit holds for the whole run: the image of the first part counts
    fs::rename(root / "moved", root / "images");
    const Outcome limit = run("train --resume " + out + " --set data.root=" + (root / "images").string() +
                              " --set num_step=12 --set data.max_bad_share=0.04");
    EXPECT_EQ(limit.code, 3) << limit.output;
    EXPECT_TRUE(has(limit.output, "unreadable images")) << limit.output;
    fs::rename(root / "images/p1/16.pgm", root / "images/p1/other.pgm");
    const Outcome renamed = run("train --resume " + out);
    EXPECT_EQ(renamed.code, 3) << renamed.output;
    EXPECT_TRUE(has(renamed.output, "not those of the run")) << renamed.output;
    fs::remove(root / "images/p1/other.pgm");
    EXPECT_TRUE(has(run("train --resume " + out).output, "got 23 images"));
}

TEST_F(Program, ASignalEndsAnEvaluationWithACheckpoint) {
    const fs::path out = root / "run";
    const pid_t child = fork();
    if (child == 0) {
        const std::string config = (root / "tiny.toml").string();
        std::freopen("/dev/null", "w", stderr);
        // the evaluation at step 2 embeds far more images than the test waits for
        execl(BF_PROGRAM, BF_PROGRAM, "train", config.c_str(), "--output", out.c_str(), "--set", "verbose=2", "--set",
              "frequent=2", "--set", "val=[{name='v', identities=100000, images_per_identity=10}]", nullptr);
        _exit(127);
    }
    for (int i = 0; i < 3000 && read(out / "metrics.jsonl").empty(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill(child, SIGTERM);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 75);
    const auto found = bf::CheckpointFolder(out / "checkpoints").load_latest();
    ASSERT_TRUE(found);
    EXPECT_EQ(found->step, 2u);
    // the evaluation that was cut is made up for
    const Outcome o = run("train --resume " + out.string() + " --set num_step=4 --set " +
                          "\"val=[{name='v', identities=6, images_per_identity=4, pair_count=40}]\"");
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_LT(o.output.find("step 2  [v]"), o.output.find("step 4  [v]")) << o.output;
}

TEST(Metrics, ADamagedLineEndsTheReading) {
    const fs::path file = fs::temp_directory_path() / ("bf_metrics_" + std::to_string(::getpid()));
    std::ofstream(file) << "{\"kind\":\"step\",\"step\":1}\n{\"kind\n{\"kind\":\"step\",\"step\":3}\n";
    std::string warning;
    EXPECT_EQ(bf::read_metrics(file, &warning).size(), 1u);
    EXPECT_TRUE(has(warning, ":2")) << warning;
    {
        bf::Metrics kept(file, 25);
        EXPECT_EQ(kept.bytes(), 25u);
        kept.add(bf::Record("end"));
    }
    EXPECT_EQ(bf::read_metrics(file).size(), 2u);
    fs::remove(file);
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
    const auto error_of = [&](const char* text, const std::vector<std::string>& settings = {}) -> std::string {
        std::ofstream(folder / "bad.toml") << text;
        try {
            bf::program::load_config(folder / "bad.toml", settings);
        } catch (const bf::Error& e) {
            EXPECT_EQ(e.code(), bf::ErrorCode::usage);
            return e.what();
        }
        return "(no error)";
    };
    // an error stands where it was written: in the base, in a table of val, in a setting
    std::ofstream(folder / "base.toml") << "batch_size = 7\n[broadface]\nque = 5\n";
    EXPECT_TRUE(has(error_of("base = \"base.toml\"\n[broadface]\nqueue = 9\n"), "base.toml:3: unknown key"))
        << error_of("base = \"base.toml\"\n");
    EXPECT_TRUE(has(error_of("lr = 1.0\n[[val]]\nname = 'a'\nfolds = 1\n"), "bad.toml:4: val.folds"));
    EXPECT_TRUE(has(error_of("lr = 1.0\n", {"batch_size=0"}), "--set batch_size=0: batch_size"));
    EXPECT_TRUE(has(error_of("\nbase = 3\n"), "bad.toml:2: base: got 3"));
    EXPECT_TRUE(has(error_of("", {"base=x.toml"}), "base"));
    EXPECT_TRUE(has(error_of("lr_steps = [-1]\n"), "lr_steps"));
    EXPECT_TRUE(has(error_of("margin_list = [1, nan, 0]\n"), "finite"));
    EXPECT_TRUE(has(error_of("data.kind = 'folder'\ndata.root = '/'\ndata.only_folds = [1]\n"),
                    "a folder has no folds of its own"));
    std::ofstream(folder / "circle.toml") << "base = \"circle.toml\"\n";
    EXPECT_THROW(bf::program::load_config(folder / "circle.toml"), bf::Error);
    fs::remove_all(folder);
}

TEST(Config, MemoriesAreNamedAndBounded) {
    const auto c = bf::program::parse_config("memory = 'vpl'\n[vpl]\nlambda = 0.3\n[xbm]\nmargin = 0.25\n", "t");
    EXPECT_EQ(c.memory, "vpl");
    EXPECT_EQ(c.vpl.lambda, 0.3);
    EXPECT_EQ(c.xbm.margin, 0.25);
    EXPECT_EQ(bf::program::parse_config("", "t").memory, "broadface");
    const auto error_of = [](const char* text) -> std::string {
        try {
            bf::program::parse_config(text, "t");
        } catch (const bf::Error& e) {
            return e.what();
        }
        return "(no error)";
    };
    EXPECT_TRUE(has(error_of("memory = 'xmb'"), "did you mean xbm?")) << error_of("memory = 'xmb'");
    EXPECT_TRUE(has(error_of("vpl.lambda = 1.0"), "vpl.lambda")) << error_of("vpl.lambda = 1.0");
    EXPECT_TRUE(has(error_of("xbm.margin = 1.5"), "xbm.margin"));
    EXPECT_TRUE(has(error_of("xbm.queue = 0"), "xbm.queue"));
    EXPECT_TRUE(has(error_of("xbm.lamda = 1.0"), "unknown key"));
}

TEST(Config, AMarginThatTheLossNamesIsNeverOff) {
    const auto margins = [](const std::string& text) { return bf::program::parse_config(text, "t").margin_list; };
    using List = std::vector<double>;
    EXPECT_EQ(margins("loss = 'arcface'"), (List{1, 0.5, 0}));
    EXPECT_EQ(margins("loss = 'cosface'"), (List{1, 0, 0.4}));
    EXPECT_EQ(margins("loss = 'sphereface'"), (List{4, 0, 0}));
    EXPECT_EQ(margins("loss = 'softmax'"), (List{1, 0, 0}));
    EXPECT_EQ(margins("loss = 'combined'"), (List{1, 0.5, 0}));
    EXPECT_EQ(margins("loss = 'combined'\nmargin_list = [1.35, 0.2, 0.1]"), (List{1.35, 0.2, 0.1}));
    for (const char* wrong :
         {"loss = 'cosface'\nmargin_list = [1, 0.5, 0]", "loss = 'arcface'\nmargin_list = [1, 0, 0.4]",
          "loss = 'arcface'\nmargin_list = [1, 0.5, 0.1]", "loss = 'sphereface'\nmargin_list = [1.35, 0, 0]",
          "loss = 'sphereface'\nmargin_list = [1, 0, 0]", "loss = 'softmax'\nmargin_list = [1, 0.5, 0]"})
        try {
            margins(wrong);
            ADD_FAILURE() << wrong;
        } catch (const bf::Error& e) {
            EXPECT_TRUE(has(e.what(), "t:2: margin_list") && has(e.what(), "combined")) << e.what();
        }
    for (const char* loss : {"arcface", "cosface", "sphereface", "softmax", "combined"}) {
        const auto c = bf::program::parse_config(std::string("loss = '") + loss + "'", "t");
        EXPECT_EQ(bf::program::to_toml(bf::program::parse_config(bf::program::to_toml(c), "t")),
                  bf::program::to_toml(c));
    }
}

}  // namespace
