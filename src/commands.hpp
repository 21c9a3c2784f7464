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
struct ImportArguments {
    std::string in, out, network, prefix, input;
    int embedding_size = 0, image_size = 0;  ///< 0: what the file says
    bool allow_missing = false, json = false;
};
struct DemoArguments {
    std::string output = "runs/demo";
    int seeds = 3, steps = 0;
    bool quick = false;
};
struct ExportArguments {
    std::string model, onnx, safetensors, npy, pixels, check;
    int opset = 17;
};

int run_train(const TrainArguments& arguments);
int run_eval(const EvalArguments& arguments);
int run_embed(const EmbedArguments& arguments);
int run_import(const ImportArguments& arguments);
int run_export(const ExportArguments& arguments);
int run_demo(const DemoArguments& arguments);
int run_info(bool json);
int run_doctor(bool json);
/// One line of build facts for --version.
std::string build_facts();
/// Of this machine: the processor's name, and memory in GiB.
std::string processor();
double memory_gib();

}  // namespace bf::program
