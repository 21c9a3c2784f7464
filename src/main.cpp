// The bf program: subcommands, their flags, and exit codes (0 ok, 1 runtime, 2 usage, 3 data, 4 diverged, 75 stopped).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>

#include "bf/base/error.hpp"
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
        for (const CLI::App* inner : s->get_subcommands()) add(inner);
    }
    for (int i = 1; i < argc; ++i) {
        const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
        const bool command = word[0] != '-' && (i == 1 || (i == 2 && message.find("subcommand") != std::string::npos));
        if (std::find(known.begin(), known.end(), word) != known.end() ||
            (!command && message.find(word) == std::string::npos))
            continue;
        const std::string near = bf::program::nearest(word, known),
                          what = command ? "unknown command " + word : message;
        return what + (near.empty() ? "; hint: bf --help lists the commands" : "; hint: did you mean " + near + "?");
    }
    return message + "; hint: bf --help, bf COMMAND --help";
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

void add_eval(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<EvalArguments>();
    CLI::App* c = app.add_subcommand("eval", "Verify pairs with a trained network");
    c->add_option("--model", a->model, "model.safetensors, a checkpoint, or a run folder");
    c->add_option("--pairs", a->pairs, "LFW's pairs.txt, or with --kind list lines `path1 path2 0|1`");
    c->add_option("--root", a->root, "Folder that the images are relative to");
    c->add_option("--kind", a->kind, "lfw or list")->check(CLI::IsMember({"lfw", "list"}));
    c->add_option("--fold", a->fold, "Take one fold of LFW's file alone (dealt out to --folds folds)")
        ->check(CLI::Range(0, 1000));
    c->add_option("--folds", a->folds, "Folds of a single fold or of a list")->check(CLI::Range(2, 1000));
    c->add_option("--out", a->out, "Folder for eval.json and roc.csv");
    c->add_option("--device", a->device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    c->add_flag("--pixels", a->pixels, "Pixel cosine instead of a network: the trivial baseline");
    c->add_flag("--synthetic", a->synthetic, "Pairs of drawn faces instead of files");
    c->add_flag("--json", a->json, "Print one JSON object");
    c->callback([a, &chosen] { chosen = [a] { return run_eval(*a); }; });
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

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"bf trains and tests face recognition networks, with BroadFace as an optimizer stage."};
    app.set_version_flag("--version", [] { return build_facts(); });
    app.require_subcommand(1);
    Chosen chosen;
    add_train(app, chosen);
    add_eval(app, chosen);
    add_embed(app, chosen);
    add_align(app, chosen);
    add_compare(app, chosen);
    add_search(app, chosen);
    add_info(app, chosen);
    add_doctor(app, chosen);
    add_demo(app, chosen);

    std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error of the write, with message and clean-up
    try {
        app.parse(argc, argv);
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
