#pragma once
#include <string>
#include <vector>

namespace bf::program {

struct TrainArguments {
    std::string config, resume, output, device;
    std::vector<std::string> settings;
    bool quiet = false, help_config = false;
};
struct EvalArguments {
    std::string model, pairs, root, kind = "lfw", out, device = "cpu";
    int fold = 0, folds = 10;
    bool json = false, pixels = false, synthetic = false;
};
struct EmbedArguments {
    std::string model, images, list, out, device = "cpu";
    int batch = 64;
    bool no_flip = false;
};
struct IjbArguments {
    std::string model, root, set = "ijbc", protocol = "1:1", embeddings, names, cache, scores, out, device = "cpu";
    int batch = 64;
    bool json = false, no_flip = false, no_detector_weights = false, normalise_images = false, skip_missing = false,
         aligned = false;
};
struct MegaFaceArguments {
    std::string model, probes, distractors, probe_root, distractor_root, ending, probe_noise, distractor_noise,
        probe_embeddings, distractor_embeddings, cache, out, device = "cpu";
    int batch = 64, ranks = 100;
    bool json = false;
};
struct DemoArguments {
    std::string output = "runs/demo";
    int seeds = 3, steps = 0;
    bool quick = false;
};

int run_train(const TrainArguments& arguments);
int run_eval(const EvalArguments& arguments);
int run_eval_ijb(const IjbArguments& arguments);
int run_eval_megaface(const MegaFaceArguments& arguments);
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
