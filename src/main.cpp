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
    for (const CLI::App* s : app.get_subcommands()) add(s);
    for (int i = 1; i < argc; ++i) {
        const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
        const bool command = i == 1 && word[0] != '-';
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

void add_plot(CLI::App& app, Chosen& chosen) {
    const auto a = std::make_shared<PlotArguments>();
    CLI::App* c = app.add_subcommand("plot", "Draw metrics of runs, curves of reports or scores of pairs as SVG");
    c->add_option(
         "inputs", a->inputs,
         "Run folders or metrics.jsonl files; or .csv files of a report's curves (series,X,Y); or .csv or .npy "
         "files of score,label (1 same, 0 different): ROC, DET and histogram")
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
    c->callback([a, &chosen] { chosen = [a] { return run_plot(*a); }; });
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
    add_plot(app, chosen);
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
