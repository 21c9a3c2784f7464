#include <cstdio>

#include "bf/io/atomic_file.hpp"
#include "commands.hpp"
#include "datasets.hpp"
#include "model.hpp"

namespace bf::program {

int run_eval(const EvalArguments& a) {
    BF_CHECK(a.pixels || !a.model.empty(), "eval", "want --model FILE or RUN (or --pixels for the baseline)");
    BF_CHECK(!a.pixels || a.model.empty(), "eval", "got both --pixels and --model; want one of them");
    BF_CHECK(!a.pixels || a.device == "cpu", "eval", "--pixels runs on the cpu; got --device ", a.device);
    BF_CHECK(a.fold == 0 || (a.kind == "lfw" && !a.synthetic), "eval",
             "--fold goes with --kind lfw only: neither a list nor drawn faces have folds of their own");
    BF_CHECK(a.synthetic || (!a.pairs.empty() && !a.root.empty()), "eval", "want --pairs FILE and --root FOLDER");
    ValConfig val{
        .name = a.kind, .kind = a.kind, .root = a.root, .pairs = a.pairs, .only_fold = a.fold, .folds = a.folds};
    if (a.synthetic) val.name = val.kind = "synthetic";
    Model model;
    if (!a.pixels) model = load_model(a.model, exact_device_of(a.device));
    const Module* net = model.net.get();
    const ValidationSet set = open_validation(val, model.image_size);
    const Verification v = net ? verify(*model.net, set, model.image_size, model.input) : verify_pixels(set);
    if (a.json) {
        std::fputs(v.record(0).line().c_str(), stdout);
    } else {
        const std::string alone =
            a.fold ? concat(" (fold ", a.fold, " alone, dealt out to ", set.folds, " folds)") : "";
        std::printf(
            "protocol: %d-fold verification%s, %zu pairs; %s, squared distance of unit vectors,\n"
            "          thresholds 0..3.99 by 0.01, same if distance < threshold, first best threshold of the other "
            "folds;\n"
            "          TAR at the largest FAR <= x over all pairs\n%s\n"
            "[%s] TAR %.4f+-%.4f @ FAR %.5f over folds (threshold of the other folds at FAR 1e-3)\n",
            set.folds, alone.c_str(), v.pairs,
            net ? "embedding of image plus mirror image" : "mean-free grey pixels at 32 x 32 (no network, no mirror)",
            v.line().c_str(), v.name.c_str(), v.fold_tar.mean, v.fold_tar.std, v.fold_tar.far);
    }
    if (!a.out.empty()) {
        std::filesystem::create_directories(a.out);
        write_file(std::filesystem::path(a.out) / "eval.json", v.record(0).line());
        std::string csv = "far,tar\n";
        for (const auto& [far, tar] : v.roc) csv += json_number(far) + "," + json_number(tar) + "\n";
        write_file(std::filesystem::path(a.out) / "roc.csv", csv);
    }
    return 0;
}

}  // namespace bf::program
