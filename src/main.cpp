// The bf program: subcommands, their flags, and exit codes (0 ok, 1 runtime, 2 usage, 3 data, 4 diverged, 75 stopped).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <new>

#include "bf/base/error.hpp"
#include "commands.hpp"
#include "config_toml.hpp"

namespace {

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

}  // namespace

int main(int argc, char** argv) {
    using namespace bf::program;
    CLI::App app{"bf trains and tests face recognition networks, with BroadFace as an optimizer stage."};
    app.set_version_flag("--version", [] { return build_facts(); });
    app.require_subcommand(1);
    std::function<int()> chosen;

    TrainArguments train;
    CLI::App* t = app.add_subcommand("train", "Train as a TOML file says; results go to the folder `output`");
    t->add_option("config", train.config, "TOML file (see --help-config)");
    t->add_option("--set", train.settings, "Change a key, such as --set broadface.queue=8192 (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
    t->add_option("--resume", train.resume, "Continue the run in this folder from its newest intact checkpoint");
    t->add_option("--output", train.output, "Folder of a new run (the key output)");
    t->add_option("--device", train.device, "cpu or cuda (the key device)")->check(CLI::IsMember({"cpu", "cuda"}));
    t->add_flag("--quiet", train.quiet, "No progress on stderr");
    t->add_flag("--help-config", train.help_config, "List every key with its default and meaning");
    t->callback([&] { chosen = [&] { return run_train(train); }; });

    EvalArguments eval;
    CLI::App* e = app.add_subcommand("eval", "Verify pairs with a trained network");
    e->add_option("--model", eval.model, "model.safetensors, a checkpoint, or a run folder");
    e->add_option("--pairs", eval.pairs, "LFW's pairs.txt, or with --kind list lines `path1 path2 0|1`");
    e->add_option("--root", eval.root, "Folder that the images are relative to");
    e->add_option("--kind", eval.kind, "lfw or list")->check(CLI::IsMember({"lfw", "list"}));
    e->add_option("--fold", eval.fold, "Take one fold of LFW's file alone (dealt out to --folds folds)")
        ->check(CLI::Range(0, 1000));
    e->add_option("--folds", eval.folds, "Folds of a single fold or of a list")->check(CLI::Range(2, 1000));
    e->add_option("--out", eval.out, "Folder for eval.json and roc.csv");
    e->add_option("--device", eval.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    e->add_flag("--pixels", eval.pixels, "Pixel cosine instead of a network: the trivial baseline");
    e->add_flag("--synthetic", eval.synthetic, "Pairs of drawn faces instead of files");
    e->add_flag("--json", eval.json, "Print one JSON object");
    e->callback([&] { chosen = [&] { return run_eval(eval); }; });

    EmbedArguments embed;
    CLI::App* m =
        app.add_subcommand("embed", "Embed images: OUT.npy with one row an image, OUT.txt with the file names");
    m->add_option("--model", embed.model, "model.safetensors, a checkpoint, or a run folder")->required();
    m->add_option("--images", embed.images,
                  "Folder, searched with its sub-folders; with --list the folder its paths are relative to");
    m->add_option("--list", embed.list, "List of path<TAB>label");
    m->add_option("--out", embed.out, "Prefix of the two files")->required();
    m->add_option("--batch", embed.batch, "Images at a time")->check(CLI::Range(1, 4096));
    m->add_option("--device", embed.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
    m->add_flag("--no-flip", embed.no_flip, "Do not add the embedding of the mirror image");
    m->callback([&] { chosen = [&] { return run_embed(embed); }; });

    bool info_json = false;
    CLI::App* i = app.add_subcommand("info", "What was built, the machine, the networks");
    i->add_flag("--json", info_json, "Print one JSON object");
    i->callback([&] { chosen = [&] { return run_info(info_json); }; });

    bool doctor_json = false;
    CLI::App* r =
        app.add_subcommand("doctor", "Build, machine, GPUs and libraries; causes and cures of what is missing");
    r->add_flag("--json", doctor_json, "Print one JSON object");
    r->callback([&] { chosen = [&] { return run_doctor(doctor_json); }; });

    DemoArguments demo;
    CLI::App* d = app.add_subcommand("demo", "Train ArcFace and BroadFace on drawn faces and compare them");
    d->add_option("--output", demo.output, "Folder; runs of an earlier demo in it are replaced");
    d->add_option("--seeds", demo.seeds, "Seeds of each method");
    d->add_option("--steps", demo.steps, "Steps of a run (0: the default)");
    d->add_flag("--quick", demo.quick, "A toy size, to see that it runs");
    d->callback([&] { chosen = [&] { return run_demo(demo); }; });

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
