#include <cstdio>

#include "bf/io/atomic_file.hpp"
#include "commands.hpp"
#include "session.hpp"

namespace bf::program {

int run_eval(const EvalArguments& a) {
    BF_CHECK(a.pixels || !a.model.empty(), "eval", "want --model FILE or RUN (or --pixels for the baseline)");
    BF_CHECK(a.synthetic || (!a.pairs.empty() && !a.root.empty()), "eval", "want --pairs FILE and --root FOLDER");
    ValConfig val{
        .name = a.kind, .kind = a.kind, .root = a.root, .pairs = a.pairs, .only_fold = a.fold, .folds = a.folds};
    if (a.synthetic) val.name = val.kind = "synthetic";
    std::shared_ptr<IResNet> net;
    if (!a.pixels) net = load_model(a.model);
    const std::int64_t size = net ? net->options().image_size : 112;
    const ValidationSet set = open_validation(val, size);
    const Verification v = net ? verify(*net, set, size) : verify_pixels(set);
    if (a.json) {
        std::fputs(v.record(0).line().c_str(), stdout);
    } else {
        std::printf(
            "protocol: %d-fold verification, %zu pairs; embedding of image plus mirror image, squared distance of unit "
            "vectors,\n"
            "          thresholds 0..3.99 by 0.01, same if distance < threshold, first best threshold of the other "
            "folds\n%s\n",
            set.folds, v.pairs, v.line().c_str());
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
