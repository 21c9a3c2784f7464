// The bf program: subcommands, their flags, and exit codes (0 ok, 1 runtime, 2 usage, 3 data, 4 diverged, 75 stopped).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>

#include "bf/base/error.hpp"
#include "bf/kernels/cpu_backend.hpp"
#include "commands.hpp"
#include "config_toml.hpp"

namespace {

using namespace bf::program;

/// What CLI11 could not place, with the nearest known name.
std::string with_hint(const CLI::App& app, const std::string& message, int argc, char** argv) {
    std::vector<std::string> known;
    const auto add = [&known](const CLI::App* a) {
        for (const CLI::Option* o : a->get_options())
            for (const std::string& name : o->get_lnames()) known.push_back("--" + name);
        for (const CLI::App* s : a->get_subcommands({})) known.push_back(s->get_name());
    };
    add(&app);
    for (const CLI::App* s : app.get_subcommands()) {
        add(s);
        for (const CLI::App* nested : s->get_subcommands()) add(nested);
    }
    std::string unknown;
    for (int i = 1; i < argc; ++i) {
        const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
        const bool command = word[0] != '-' && (i == 1 || (i == 2 && message.find("subcommand") != std::string::npos));
        if (std::find(known.begin(), known.end(), word) != known.end() ||
            (!command && message.find(word) == std::string::npos))
            continue;
        const std::string near = bf::program::nearest(word, known),
                          what = command ? "unknown command " + word : message;
        if (!near.empty()) return what + "; hint: did you mean " + near + "?";
        if (unknown.empty()) unknown = what + "; hint: bf --help lists the commands";
    }
    return unknown.empty() ? message + "; hint: bf --help, bf COMMAND --help" : unknown;
}

using Chosen = std::function<int()>;  ///< what the command line asks for

void add_train(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<TrainArguments>();
    CLI::App* c = app.add_subcommand("train", "Train as a TOML file says; results go to the folder `output`");
    c->add_option("config", a->config, "TOML file (see --help-config)");
    c->add_option("--set", a->settings, "Change a key, such as --set broadface.queue=8192 (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    c->add_option("--resume", a->resume, "Continue the run in this folder from its newest intact checkpoint");
    c->add_option("--output", a->output, "Folder of a new run (the key output)");
    c->add_option("--device", a->device, "cpu or cuda (the key device)")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--quiet", a->quiet, "No progress on stderr");
    c->add_flag("--help-config", a->help_config, "List every key with its default and meaning");
    c->callback([a, &chosen] { chosen = [a] { return run_train(*a); }; });
}

void add_bench(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<BenchArguments>();
    CLI::App* c = app.add_subcommand(
        "bench", "Measure training steps and inference of a configuration on this machine, over made images");
    c->add_option("config", a->config,
                  "TOML file as bf train takes it; without one its defaults and 10,000 identities");
    c->add_option("--set", a->settings, "Change a key, such as --set broadface.queue=8192 (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    c->add_option("--network", a->network, "The key network");
    c->add_option("--batch", a->batch, "The key batch_size")->check(CLI::Range(1, 1000000));
    c->add_option("--queue", a->queue, "The key broadface.queue; the queue is full")->check(CLI::Range(0, 100000000));
    c->add_option("--identities", a->identities, "Rows of the classifier, without opening the data")
        ->check(CLI::Range(1, 100000000));
    c->add_option("--device", a->device, "cpu or cuda (the key device)")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_option("--precision", a->precision, "The key precision")
        ->check(CLI::IsMember({"auto", "f32", "tf32", "bf16"}));
    c->add_option("--mode", a->mode, "train, inference or both, with a comma between")
        ->check(CLI::IsMember({"train", "inference", "train,inference"}));
    c->add_option("--steps", a->steps, "Measured steps: the median counts")->check(CLI::Range(1, 100000));
    c->add_option("--warmup", a->warmup, "Steps before them")->check(CLI::Range(0, 1000));
    c->add_option("--seconds", a->seconds, "Start no further step after this time (0: no limit)")
        ->check(CLI::Range(0.0, 1e6));
    c->add_flag("--profile", a->profile, "cpu: where the time of a step goes, kernel by kernel");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->footer("bf bench --network r50 --batch 16 --profile\nbf bench configs/lfw_small.toml --mode train");
    c->callback([a, &chosen] { chosen = [a] { return run_bench(*a); }; });
}

void add_eval_ijb(CLI::App& eval, Chosen& chosen) {
    const auto a = std::make_shared<IjbArguments>();
    CLI::App* c = eval.add_subcommand("ijb", "IJB-B and IJB-C: verification of templates (1:1), search (1:N)");
    c->add_option("--root", a->root, "Folder with meta/ and loose_crop/");
    c->add_option("--set", a->set, "ijbb or ijbc")->check(CLI::IsMember({"ijbb", "ijbc"}));
    c->add_option("--protocol", a->protocol,
                  "1:1; 1:N (both galleries apart, open set); 1:N-closed (galleries merged, every probe mated)")
        ->check(CLI::IsMember({"1:1", "1:N", "1:N-closed"}));
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder");
    c->add_option("--embeddings", a->embeddings,
                  "Image vectors [n, D] f32 (.npy) instead of a model, in the order of the meta files");
    c->add_option("--names", a->names, "File names of the rows of --embeddings, if their order is another");
    c->add_option("--cache", a->cache, "FILE.npy that keeps the vectors; a run that was cut off goes on from it");
    c->add_option("--batch", a->batch, "Images at a time")->check(CLI::Range(1, 4096));
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--no-flip", a->no_flip, "Do not add the vector of the mirror image");
    c->add_flag("--no-detector-weights", a->no_detector_weights, "Do not weigh image vectors by the detector's score");
    c->add_flag("--normalise-images", a->normalise_images,
                "Scale image vectors to length 1 first, so that their norms do not weigh");
    c->add_flag("--aligned", a->aligned, "The images are aligned faces already: do not warp them by their landmarks");
    c->add_flag("--skip-missing", a->skip_missing, "Leave out images that are not there instead of stopping");
    c->add_option("--scores", a->scores, "Write the scores of 1:1 in the order of the pairs (.npy, f64)");
    c->add_option("--out", a->out, "Folder for report.json, CSV and SVG files");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_eval_ijb(*a); }; });
}

void add_eval_megaface(CLI::App& eval, Chosen& chosen) {
    const auto a = std::make_shared<MegaFaceArguments>();
    CLI::App* c = eval.add_subcommand(
        "megaface", "MegaFace challenge 1: identification among distractors, verification at FAR 1e-6");
    c->add_option("--probes", a->probes, "List of FaceScrub photos (the devkit's JSON, or PERSON/PHOTO a line)");
    c->add_option("--distractors", a->distractors, "List of distractors (JSON or text)");
    c->add_option("--probe-root", a->probe_root, "Folder of the probes' feature files, or images with --model");
    c->add_option("--distractor-root", a->distractor_root, "The same for distractors");
    c->add_option("--ending", a->ending, "What feature files add to an image's name, such as _r100.bin");
    c->add_option("--probe-embeddings", a->probe_embeddings, "Vectors [n, D] f32 (.npy) in the order of --probes");
    c->add_option("--distractor-embeddings", a->distractor_embeddings, "The same for --distractors");
    c->add_option("--model", a->model, "Embed the images below the roots (aligned faces, mirror image added)");
    c->add_option("--cache", a->cache, "Prefix of the files that keep the model's vectors; a run goes on from them");
    c->add_option("--probe-noise", a->probe_noise, "facescrub_noises.txt: photos that show someone else");
    c->add_option("--distractor-noise", a->distractor_noise, "megaface_noises.txt: distractors that show a probe");
    c->add_option("--ranks", a->ranks, "Ranks of the CMC curve")->check(CLI::Range(1, 100000));
    c->add_option("--batch", a->batch, "Images at a time")->check(CLI::Range(1, 4096));
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_option("--out", a->out, "Folder for report.json, CSV and SVG files");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_eval_megaface(*a); }; });
}

void add_retrieval(CLI::App& eval, Chosen& chosen) {
    const auto a = std::make_shared<RetrievalArguments>();
    CLI::App* c = eval.add_subcommand("retrieval", "Recall@K, R-precision and MAP@R of a retrieval set");
    c->add_option("--set", a->set,
                  "sop, inshop, cub, cars: the set's own lists under --root; omniglot: ROOT/ALPHABET/CHARACTER; "
                  "folder: ROOT/LABEL/IMAGE; list: --list of lines `path label`")
        ->required()
        ->check(CLI::IsMember({"sop", "inshop", "cub", "cars", "omniglot", "folder", "list"}));
    c->add_option("--root", a->root, "Folder of the set")->required();
    c->add_option("--list", a->list,
                  "List, if not the usual one under --root (Ebay_test.txt, list_eval_partition.txt, "
                  "cars_annos.mat or cars.txt of lines `path class`)");
    c->add_option("--split", a->split, "test or train half of the classes (sop, cub, cars)")
        ->check(CLI::IsMember({"test", "train"}));
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder");
    c->add_option("--embeddings", a->embeddings,
                  "X.npy, a row an image: by the names in X.txt (as bf embed writes them), else in the set's order");
    c->add_flag("--pixels", a->pixels, "Pixel cosine instead of a network: the trivial baseline");
    c->add_flag("--flip", a->flip, "Add the embedding of the mirror image");
    c->add_option("--k", a->ks, "K of Recall@K, with commas (default: the set's usual ones)")->delimiter(',');
    c->add_option("--rounds", a->rounds, "Bootstrap rounds of the intervals (0: none)")->check(CLI::Range(0, 1000000));
    c->add_option("--out", a->out, "Folder for report.json, figures.csv, queries.csv and curves");
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_retrieval(*a); }; });
}

void add_significance(CLI::App& eval, Chosen& chosen) {
    const auto a = std::make_shared<SignificanceArguments>();
    CLI::App* c = eval.add_subcommand("significance", "Paired test of two models on the same pairs or queries");
    c->add_option("A", a->first, "Folder that bf eval --out wrote, or its scores.csv or queries.csv")->required();
    c->add_option("B", a->second, "The same of the other model")->required();
    c->add_option("--rounds", a->rounds, "Bootstrap rounds and exchanges")->check(CLI::Range(1, 1000000));
    c->add_option("--out", a->out, "Folder for report.json and figures.csv");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_significance(*a); }; });
}

void add_eval(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<EvalArguments>();
    CLI::App* c = app.add_subcommand("eval", "Verify pairs with a trained network; more protocols as subcommands");
    c->require_subcommand(0, 1);
    add_eval_ijb(*c, chosen);
    add_eval_megaface(*c, chosen);
    add_retrieval(*c, chosen);
    add_significance(*c, chosen);
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder");
    c->add_option(
        "--pairs", a->pairs,
        "lfw: pairs.txt; lfw_view1: pairsDevTest.txt; list: lines `path1 path2 0|1`; bin: InsightFace's .bin; "
        "cfp_*: the folder Protocol; agedb, calfw, cplfw: two lines a pair; ytf: splits.txt");
    c->add_option("--train-pairs", a->train_pairs, "lfw_view1: pairsDevTrain.txt, on which the threshold is chosen");
    c->add_option("--root", a->root, "Folder that the images (ytf: the folders of frames) are relative to");
    c->add_option("--kind", a->kind, "What --pairs is; cfp is cfp_fp")
        ->check(CLI::IsMember(
            {"lfw", "lfw_view1", "list", "bin", "cfp", "cfp_fp", "cfp_ff", "agedb", "calfw", "cplfw", "ytf"}));
    c->add_option("--fold", a->fold, "Take one fold of LFW's file alone (dealt out to --folds folds)")
        ->check(CLI::Range(0, 1000));
    c->add_option("--folds", a->folds, "Folds where the list has none of its own")->check(CLI::Range(2, 1000));
    c->add_option("--rounds", a->rounds, "Bootstrap rounds of the intervals (0: none)")->check(CLI::Range(0, 1000000));
    c->add_option("--out", a->out, "Folder for report.json, figures.csv, scores.csv and curves");
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--pixels", a->pixels, "Pixel cosine instead of a network: the trivial baseline");
    c->add_flag("--synthetic", a->synthetic, "Pairs of drawn faces instead of files");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, c, &chosen] {
        if (c->get_subcommands().empty()) chosen = [a] { return run_eval(*a); };
    });
}

void add_embed(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<EmbedArguments>();
    CLI::App* c =
        app.add_subcommand("embed", "Embed images: OUT.npy with one row an image, OUT.txt with the file names");
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder")->required();
    c->add_option("--images", a->images,
                  "Folder, searched with its sub-folders; with --list the folder its paths are relative to");
    c->add_option("--list", a->list, "List of path<TAB>label");
    c->add_option("--out", a->out, "Prefix of the two files")->required();
    c->add_option("--batch", a->batch, "Images at a time")->check(CLI::Range(1, 4096));
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--no-flip", a->no_flip, "Do not add the embedding of the mirror image");
    c->callback([a, &chosen] { chosen = [a] { return run_embed(*a); }; });
}

void add_import(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<ImportArguments>();
    CLI::App* c = app.add_subcommand(
        "import",
        "Turn weights of other programs (.pth, .pt, .safetensors, .onnx, .npz) into a model.safetensors of bf");
    c->add_option("file", a->in, "File of weights; its content tells the kind, not its ending")->required();
    c->add_option("--out", a->out, "The file to write")->required();
    c->add_option("--network", a->network, "r50, mobilefacenet, ... (bf info lists them); default: by names and sizes");
    c->add_option("--prefix", a->prefix,
                  "What the file's names have in front, such as module.backbone. (default: found)");
    c->add_option("--embedding-size", a->embedding_size, "Default: that of the file's last linear")
        ->check(CLI::Range(2, 65536));
    c->add_option("--image-size", a->image_size, "Side of the images; default: from the file, or the network's own")
        ->check(CLI::Range(16, 1024));
    c->add_option("--input", a->input,
                  "Pixels that the weights expect: rgb or bgr (x / 127.5 - 1), imagenet "
                  "(default: the network's own)")
        ->check(CLI::IsMember({"rgb", "bgr", "imagenet"}));
    c->add_flag("--allow-missing", a->allow_missing, "Keep freshly drawn values where the file has none that fit");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_import(*a); }; });
}

void add_export(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<ExportArguments>();
    CLI::App* c = app.add_subcommand("export", "Write a trained network for other programs, in one format or several");
    c->add_option("model", a->model, "model.safetensors, a checkpoint, or a run folder")->required();
    c->add_option("--onnx", a->onnx,
                  "ONNX file: input \"input\" [batch, 3, S, S] normalised as the model wants it, output \"embedding\"");
    c->add_option("--opset", a->opset, "ONNX operator set (IR version 6, 7 or 8)")->check(CLI::IsMember({11, 13, 17}));
    c->add_option("--with-preprocessing", a->pixels,
                  "The ONNX graph takes RGB pixels 0..255 of this type and normalises them itself")
        ->check(CLI::IsMember({"u8", "f32"}));
    c->add_option("--safetensors", a->safetensors, "safetensors file: parameters and running statistics alone");
    c->add_option("--npy", a->npy, "Folder for one NAME.npy a tensor");
    c->add_option("--check-data", a->check,
                  "Also write three drawn inputs and their embeddings, PREFIX.input.npy and PREFIX.embedding.npy, for "
                  "tools/check_export.py");
    c->footer("bf export runs/x --onnx x.onnx --check-data x\npython3 tools/check_export.py x.onnx --data x");
    c->callback([a, &chosen] { chosen = [a] { return run_export(*a); }; });
}

void add_align(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<AlignArguments>();
    CLI::App* c = app.add_subcommand("align", "Cut aligned face crops out of images by their landmarks");
    c->add_option(
         "list", a->list,
         "Lines `file x1 y1 .. x5 y5 [score]`: left eye, right eye, nose, left and right corner of the mouth as "
         "seen; or 68 points; blanks, tabs or commas")
        ->required();
    c->add_option("--root", a->root, "Folder that the files are relative to (the list's folder)");
    c->add_option("--out", a->out, "Folder for the crops; sub-folders are kept; bad images are listed in its bad.txt")
        ->required();
    c->add_option("--size", a->size, "Crop: a multiple of 112 or 128, or WIDTHxHEIGHT such as 96x112");
    c->add_option("--mode", a->mode,
                  "opencv: the bits of cv::warpAffine (OpenCV 4), as InsightFace's packers; exact: "
                  "without its rounding to 1/32 pixel")
        ->check(CLI::IsMember({"exact", "opencv"}));
    c->add_option("--quality", a->quality, "JPEG quality (100: full colour resolution)")->check(CLI::Range(1, 100));
    c->add_flag("--png", a->png, "Write PNG, without loss");
    c->add_option("--threads", a->threads, "Threads (one a processor); the crops do not depend on it")
        ->check(CLI::Range(1, 1024));
    c->add_option("--max-bad-share", a->max_bad_share, "Share of missing or damaged images above which to exit with 3")
        ->check(CLI::Range(0.0, 1.0));
    c->add_flag("--overwrite", a->overwrite, "Make crops that are there already again");
    c->add_flag("--quiet", a->quiet, "No progress on stderr");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_align(*a); }; });
}

void add_pack(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<PackArguments>();
    CLI::App* c = app.add_subcommand(
        "pack", "Images to a record file OUT.rec, .idx, .lst and property; or pairs of images to a verification .bin");
    c->add_option("--images", a->images, "Folder with one sub-folder an identity; with --list or --pairs their root");
    c->add_option("--list", a->list, "Lines path<TAB>label, or im2rec's index<TAB>label<TAB>path in a file .lst");
    c->add_option("--pairs", a->pairs, "Write a .bin of these pairs: LFW's pairs.txt, or --kind list");
    c->add_option("--kind", a->kind, "Of --pairs: lfw, or list with lines `path1 path2 0|1`")
        ->check(CLI::IsMember({"lfw", "list"}));
    c->add_option("--out", a->out, "Prefix of the record files, such as faces/train; the .bin with --pairs")
        ->required();
    c->add_option("--layout", a->layout,
                  "insightface (by identity, with identity records) or shuffled (im2rec, each record an image)")
        ->check(CLI::IsMember({"insightface", "shuffled"}));
    c->add_option("--seed", a->seed, "Of the shuffled order");
    c->add_option("--protocol", a->protocol, "Pickle of the .bin: 2 as the published ones (Python 2), or 4 (Python 3)")
        ->check(CLI::IsMember({2, 4}));
    CLI::Option* size =
        c->add_option("--size", a->size,
                      "Store images of another size as JPEG of SIZE x SIZE: the largest centred square, "
                      "resized; without it no pixel changes")
            ->check(CLI::Range(8, 1024));
    c->add_option("--quality", a->quality, "Of the JPEGs that --size makes")->check(CLI::Range(1, 100))->needs(size);
    c->add_flag("--exclude-bad", a->exclude_bad, "Leave damaged images out; without it they are an error (exit 3)");
    c->add_option("--max-bad-share", a->max_bad_share, "Share of images that --exclude-bad may leave out")
        ->check(CLI::Range(0.0, 1.0));
    c->add_flag("--force", a->force, "Replace files that are there");
    c->footer(
        "Files are stored byte for byte as they are, unless --size changes them. Each is decoded first; the order of "
        "the records does not "
        "depend on the number of threads (BF_THREADS).");
    c->callback([a, &chosen] { chosen = [a] { return run_pack(*a); }; });
}

void add_index(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<IndexArguments>();
    CLI::App* c = app.add_subcommand("index", "Verify each record of a .rec; make its .idx and its checksum file");
    c->add_option("records", a->records, "A .rec file, or a folder with train.rec")->required();
    c->add_option("--idx", a->index, "Its index (FILE.idx); without one the file is scanned");
    c->add_flag("--decode", a->decode, "Decode each image too");
    c->add_flag("--check", a->check,
                "Fail without a checksum file; where there is one, records that changed since are found in any case");
    c->add_flag("--write", a->write, "Write FILE.rec.sum (checksums and labels), and FILE.idx if it is missing");
    c->add_option("--max-bad-share", a->max_bad_share, "Share of damaged records above which the exit code is 3")
        ->check(CLI::Range(0.0, 1.0));
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_index(*a); }; });
}

void add_plot(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<PlotArguments>();
    CLI::App* c = app.add_subcommand("plot", "Draw metrics of runs, curves of reports or scores of pairs as SVG");
    c->add_option(
         "inputs", a->inputs,
         "Run folders or metrics.jsonl files; or .csv files of a report's curves (series,X,Y); or .csv or .npy "
         "files of score,label (1 same, 0 different; bf eval's scores.csv): ROC, DET and histogram")
        ->required();
    c->add_option("--keys", a->keys, "Metrics to draw, such as loss,accuracy or train/loss; of curves the series")
        ->delimiter(',')
        ->allow_extra_args(false);
    c->add_option("--out", a->out, "SVG file (default: RUN/plot.svg, FILE.plot.svg, or plot.svg for several inputs)");
    c->add_option("--smooth", a->smooth, "Points in the mean around each point; 0: none (default: by their number)")
        ->check(CLI::Range(0, 1000000));
    c->add_flag("--log-x", a->log_x, "Logarithmic x axis");
    c->add_flag("--log-y", a->log_y, "Logarithmic y axis");
    c->add_flag("--distances", a->distances, "Scores are distances: smaller means the same person");
    c->add_flag("--drift", a->drift,
                "Queue rows as stored and compensated against the network of now: error by age and over steps; "
                "identities seen in a step");
    c->add_option("--steps", a->steps, "With --drift: evaluations whose rows are drawn by age (default: the last)")
        ->delimiter(',')
        ->allow_extra_args(false);
    c->callback([a, &chosen] { chosen = [a] { return run_plot(*a); }; });
}

void add_compare(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<CompareArguments>();
    CLI::App* c = app.add_subcommand("compare", "Compare two face images: cosine, distance, same or different");
    c->add_option("first", a->first, "Image: an aligned crop, or any with --landmarks")->required();
    c->add_option("second", a->second, "Image")->required();
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder")->required();
    c->add_option("--threshold", a->threshold, "Same if the cosine is at least this")->check(CLI::Range(-1.0, 1.0));
    c->add_option("--gallery", a->gallery,
                  "Take the threshold of this gallery (bf search calibrate), or with --far "
                  "choose it from its pairs of different people");
    c->add_option("--far", a->far, "False accept rate, such as 1e-3");
    c->add_option("--eval", a->eval, "Take the threshold of best accuracy from this eval.json of bf eval");
    c->add_option("--landmarks", a->landmarks, "Align first: x1,y1,..,x5,y5 of each image, two texts")->expected(2);
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_compare(*a); }; });
}

void add_search(CLI::App& app, Chosen& chosen) {
    CLI::App* search = app.add_subcommand("search", "Enroll faces in a gallery and find people in it (1:N)");
    search->require_subcommand(1);
    const auto action = [&](const char* name, const char* what) {
        const auto a = std::make_shared<SearchArguments>();
        a->action = name;
        CLI::App* c = search->add_subcommand(name, what);
        c->add_flag("--json", a->json, "Print one JSON object");
        c->callback([a, &chosen] { chosen = [a] { return run_search(*a); }; });
        return std::pair(a, c);
    };
    const auto add_gallery = [](const auto& a, CLI::App* c) {
        c->add_option("--gallery", a->gallery, "File of bf search enroll")->required();
    };
    const auto add_faces = [](const auto& a, CLI::App* c) {
        c->add_option("--images", a->folder,
                      "Folder of aligned crops, searched with its sub-folders; the first "
                      "sub-folder is the identity, without one the name of the file");
        c->add_option("--list", a->list, "Lines `path<TAB>identity`");
        c->add_option("--root", a->root, "Folder that the list's paths are relative to (the list's folder)");
        c->add_option("--landmarks", a->landmarks, "Align first: a list as bf align takes it");
        c->add_option("--batch", a->batch, "Images at a time")->check(CLI::Range(1, 4096));
        c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
        c->add_flag("--quiet", a->quiet, "No progress on stderr");
    };
    constexpr const char* model = "model.safetensors, a checkpoint, or a run folder";
    {
        const auto [a, c] = action("enroll", "Make a gallery of images");
        c->add_option("--model", a->model, model)->required();
        c->add_option("--out", a->out, "The gallery, a safetensors file")->required();
        c->add_flag("--overwrite", a->overwrite, "Replace a gallery that is there");
        add_faces(a, c);
        c->add_option("--max-bad-share", a->max_bad_share, "Share of unreadable images above which to exit with 3")
            ->check(CLI::Range(0.0, 1.0));
    }
    {
        const auto [a, c] = action("add", "Add images to a gallery; those enrolled already are passed over");
        add_gallery(a, c);
        c->add_option("--model", a->model, model)->required();
        add_faces(a, c);
        c->add_option("--max-bad-share", a->max_bad_share, "Share of unreadable images above which to exit with 3")
            ->check(CLI::Range(0.0, 1.0));
    }
    {
        const auto [a, c] = action("remove", "Remove identities or images from a gallery");
        add_gallery(a, c);
        c->add_option("--identity", a->identities, "Identity (repeatable)");
        c->add_option("--file", a->files, "Image, named as it was enrolled (repeatable)");
    }
    {
        const auto [a, c] = action("list", "What a gallery holds");
        add_gallery(a, c);
    }
    {
        const auto [a, c] = action("calibrate",
                                   "Choose a threshold by FAR from all pairs of different people in a "
                                   "gallery and store it there");
        add_gallery(a, c);
        c->add_option("--far", a->far, "False accept rate, such as 1e-3")->required();
        c->add_flag("--quiet", a->quiet, "No progress on stderr");
    }
    {
        const auto [a, c] = action("query", "Find the most alike identities");
        add_gallery(a, c);
        c->add_option("--model", a->model, model);
        c->add_option("image", a->images, "Images");
        add_faces(a, c);
        c->add_option("--embeddings", a->embeddings, "Rows of bf embed (.npy) instead of images");
        c->add_option("--top", a->top, "Identities a query")->check(CLI::Range(1, 100000));
        c->add_option("--threshold", a->threshold, "Match if the cosine is at least this")
            ->check(CLI::Range(-1.0, 1.0));
        c->add_option("--far", a->far, "Choose the threshold from all pairs of different people in the gallery");
        c->add_option("--csv", a->csv, "Write query,rank,identity,cosine,file,match");
    }
}

void add_info(CLI::App& app, Chosen& chosen) {
    const auto json = std::make_shared<bool>(false);
    CLI::App* c = app.add_subcommand("info", "What was built, the machine, the networks");
    c->add_flag("--json", *json, "Print one JSON object");
    c->callback([json, &chosen] { chosen = [json] { return run_info(*json); }; });
}

void add_doctor(CLI::App& app, Chosen& chosen) {
    const auto json = std::make_shared<bool>(false);
    CLI::App* c =
        app.add_subcommand("doctor", "Build, machine, GPUs and libraries; causes and cures of what is missing");
    c->add_flag("--json", *json, "Print one JSON object");
    c->callback([json, &chosen] { chosen = [json] { return run_doctor(*json); }; });
}

void add_demo(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<DemoArguments>();
    CLI::App* c = app.add_subcommand("demo", "Train ArcFace and BroadFace on drawn faces and compare them");
    c->add_option("--output", a->output, "Folder; runs of an earlier demo in it are replaced");
    c->add_option("--seeds", a->seeds, "Seeds of each method");
    c->add_option("--steps", a->steps, "Steps of a run (0: the default)");
    c->add_flag("--quick", a->quick, "A toy size, to see that it runs");
    c->callback([a, &chosen] { chosen = [a] { return run_demo(*a); }; });
}

void add_reproduce(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<ReproduceArguments>();
    CLI::App* c = app.add_subcommand(
        "reproduce",
        "Train what an experiment's table still misses, evaluate, and write the table; goes on where it was "
        "stopped");
    c->add_option("name", a->name, "Experiment (see --list)");
    c->add_flag("--list", a->list, "Name all experiments");
    c->add_flag("--dry-run", a->dry_run, "Print the runs, their states, and the time, disk and memory they need");
    c->add_option("--scale", a->scale, "small: drawn faces, minutes on a CPU; full: the paper's, with --data")
        ->check(CLI::IsMember({"small", "full"}));
    c->add_option("--data", a->data, "Folder of the data sets of the full scale");
    c->add_option("--seeds", a->seeds, "Seeds, with commas (default: the experiment's)")->delimiter(',');
    c->add_option("--only", a->rows, "Train this row alone (repeatable)")->allow_extra_args(false);
    c->add_option("--output", a->output, "Folder of runs and table (runs/reproduce/NAME, NAME-full at full scale)");
    c->add_option("--experiments", a->experiments, "Folder of the experiments");
    c->add_option("--threads", a->threads, "Compute threads; results do not depend on them")
        ->check(CLI::Range(1, 1024));
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--quiet", a->quiet, "No progress on stderr");
    c->footer(
        "bf reproduce --list\nbf reproduce ablation-queue --dry-run\nbf reproduce ablation-queue\n"
        "Several calls of one experiment share its runs: each passes over what another one trains.");
    c->callback([a, &chosen] { chosen = [a] { return run_reproduce(*a); }; });
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"bf trains and tests face recognition networks, with BroadFace as an optimizer stage."};
    app.set_version_flag("--version", [] { return build_facts(); });
    app.require_subcommand(1);
    Chosen chosen;
    add_train(app, chosen);
    add_eval(app, chosen);
    add_embed(app, chosen);
    add_import(app, chosen);
    add_export(app, chosen);
    add_align(app, chosen);
    add_pack(app, chosen);
    add_index(app, chosen);
    add_plot(app, chosen);
    add_compare(app, chosen);
    add_search(app, chosen);
    add_info(app, chosen);
    add_doctor(app, chosen);
    add_demo(app, chosen);
    add_bench(app, chosen);
    add_reproduce(app, chosen);

    std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error of the write, with message and clean-up
    try {
        app.parse(argc, argv);
        bf::cpu_backend();  // a wrong BF_CPU_CONV is told before any work
        return chosen();
    } catch (const CLI::CallForHelp& c) {
        return app.exit(c);
    } catch (const CLI::CallForAllHelp& c) {
        return app.exit(c);
    } catch (const CLI::CallForVersion& c) {
        return app.exit(c);
    } catch (const CLI::ParseError& c) {
        std::fprintf(stderr, "bf: error: %s\n", with_hint(app, c.what(), argc, argv).c_str());
        return 2;
    } catch (const bf::Error& c) {
        std::fprintf(stderr, "bf: %s: %s\n", c.code() == bf::ErrorCode::stopped ? "stopped" : "error", c.what());
        return static_cast<int>(c.code());
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "bf: error: out of memory; hint: a smaller batch, queue or network\n");
        return 1;
    } catch (const std::exception& c) {
        std::fprintf(stderr, "bf: error: %s\n", c.what());
        return 1;
    }
}
