#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace bf::program {

struct TrainArguments {
    std::string config, resume, output, device;
    std::vector<std::string> settings;
    bool quiet = false, help_config = false;
};
struct BenchArguments {
    std::string config, network, device, precision, mode = "train,inference";
    std::vector<std::string> settings;
    std::int64_t batch = 0, queue = -1, identities = 0;
    int steps = 10, warmup = 2;
    double seconds = 60;
    bool profile = false, json = false;
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
struct ImportArguments {
    std::string in, out, network, prefix, input;
    int embedding_size = 0, image_size = 0;  ///< 0: what the file says
    bool allow_missing = false, json = false;
};
struct PackArguments {
    std::string images, list, pairs, kind = "lfw", out, layout = "insightface";
    std::uint64_t seed = 1;
    int protocol = 2, size = 0, quality = 95;  ///< size 0: as the files are
    double max_bad_share = 0.01;
    bool exclude_bad = false, force = false;
};
struct IndexArguments {
    std::string records, index;
    double max_bad_share = 0;
    bool decode = false, write = false, check = false, json = false;
};
struct PlotArguments {
    std::vector<std::string> inputs, keys;
    std::string out;
    int smooth = -1;  ///< points of the window; -1: as many points as there are
    bool log_x = false, log_y = false, distances = false, drift = false;
    std::vector<std::uint64_t> steps;
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
struct ReproduceArguments {
    std::string name, scale = "small", data, experiments = "configs/experiments", output;
    std::vector<std::string> rows;
    std::vector<std::int64_t> seeds;
    int threads = 0;
    std::string device;
    bool list = false, dry_run = false, quiet = false;
};
struct ExportArguments {
    std::string model, onnx, safetensors, npy, pixels, check;
    int opset = 17;
};

struct AlignArguments {
    std::string list, root, out, size = "112", mode = "opencv";
    int quality = 95, threads = 0;
    double max_bad_share = 0.01;
    bool png = false, overwrite = false, quiet = false, json = false;
};
struct CompareArguments {
    std::string first, second, model, gallery, eval, device = "cpu";
    double threshold = std::numeric_limits<double>::quiet_NaN(), far = threshold;  ///< NaN: not given
    std::vector<std::string> landmarks;
    bool json = false;
};
struct SearchArguments {
    std::string action;  ///< enroll, add, remove, list, calibrate or query
    std::string gallery, model, folder, list, root, landmarks, embeddings, out, csv, device = "cpu";
    std::vector<std::string> images, identities, files;
    int batch = 64, top = 5;
    double threshold = std::numeric_limits<double>::quiet_NaN(), far = threshold;  ///< NaN: not given
    double max_bad_share = 0.01;
    bool overwrite = false, quiet = false, json = false;
};

int run_train(const TrainArguments& arguments);
int run_bench(const BenchArguments& arguments);
int run_eval(const EvalArguments& arguments);
int run_eval_ijb(const IjbArguments& arguments);
int run_eval_megaface(const MegaFaceArguments& arguments);
int run_retrieval(const RetrievalArguments& arguments);
int run_significance(const SignificanceArguments& arguments);
int run_embed(const EmbedArguments& arguments);
int run_import(const ImportArguments& arguments);
int run_export(const ExportArguments& arguments);
int run_pack(const PackArguments& arguments);
int run_index(const IndexArguments& arguments);
int run_plot(const PlotArguments& arguments);
int run_demo(const DemoArguments& arguments);
int run_reproduce(const ReproduceArguments& arguments);
int run_align(const AlignArguments& arguments);
int run_compare(const CompareArguments& arguments);
int run_search(const SearchArguments& arguments);
int run_info(bool json);
int run_doctor(bool json);
/// One line of build facts for --version.
std::string build_facts();
/// Of this machine: the processor's name, and memory in GiB, or what its container allows.
std::string processor();
double memory_gib();

}  // namespace bf::program
