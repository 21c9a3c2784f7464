#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace bf::program {

struct TrainArguments {
    std::string config, resume, output, device;
    std::vector<std::string> settings;
    bool quiet = false, help_config = false;
};
struct EvalArguments {
    std::string model, pairs, train_pairs, root, kind = "lfw", out, device = "cpu";
    int fold = 0, folds = 10, rounds = 2000;
    bool json = false, pixels = false, synthetic = false;
};
struct RetrievalArguments {
    std::string set, root, list, embeddings, model, split = "test", out, device = "cpu";
    std::vector<std::int64_t> ks;
    int rounds = 2000;
    bool json = false, pixels = false, flip = false;
};
struct SignificanceArguments {
    std::string first, second, out;
    int rounds = 9999;
    bool json = false;
};
struct EmbedArguments {
    std::string model, images, list, out, device = "cpu";
    int batch = 64;
    bool no_flip = false;
};
struct DemoArguments {
    std::string output = "runs/demo";
    int seeds = 3, steps = 0;
    bool quick = false;
};

int run_train(const TrainArguments& arguments);
int run_eval(const EvalArguments& arguments);
int run_retrieval(const RetrievalArguments& arguments);
int run_significance(const SignificanceArguments& arguments);
int run_embed(const EmbedArguments& arguments);
int run_demo(const DemoArguments& arguments);
int run_info(bool json);
int run_doctor(bool json);
/// One line of build facts for --version.
std::string build_facts();
/// Of this machine: the processor's name, and memory in GiB.
std::string processor();
double memory_gib();

}  // namespace bf::program
