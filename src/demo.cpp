#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "commands.hpp"
#include "report.hpp"
#include "session.hpp"

namespace bf::program {
namespace {

constexpr std::int64_t demo_queue = 512;

/// Many identities and a small batch: one step shows 16 of 600, the queue up to 512 rows more. docs/reproduce.md has
/// the same comparison at other learning rates, batch sizes and numbers of identities.
RunConfig demo_config(const DemoArguments& a, std::int64_t seed, std::int64_t queue) {
    RunConfig c;
    c.image_size = 32;
    c.embedding_size = 128;
    c.batch_size = 16;
    c.scale = 16;
    c.margin_list = {1, 0.2, 0};
    c.lr = 0.03;
    c.num_step = a.steps > 0 ? a.steps : a.quick ? 60 : 600;
    c.warmup_step = std::min<std::int64_t>(50, c.num_step / 2);
    c.clip_norm = 5;
    c.seed = seed;
    c.frequent = 20;
    c.verbose = std::max<std::int64_t>(1, c.num_step / 3);
    c.checkpoint_every = 1000000;
    c.keep_checkpoints = 1;
    c.data.identities = a.quick ? 200 : 600;
    c.data.images_per_identity = 20;
    c.broadface.queue = queue;
    ValConfig val;
    val.name = "unseen identities";
    val.pair_count = a.quick ? 600 : 3000;
    val.identities = 80;
    val.images_per_identity = 8;
    c.val = {val};
    c.output = a.output + "/" + (queue ? "broadface" : "arcface") + "-seed" + std::to_string(seed);
    return c;
}

/// Takes an earlier demo's run of the same name away, and nothing else.
void remove_run(const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    BF_CHECK(!fs::exists(folder) || fs::exists(folder / ".lock") || fs::exists(folder / "metrics.jsonl"),
             folder.string(), "is in the way and no run of a demo; hint: --output names another folder");
    fs::remove_all(folder);
}

struct Sum {
    double total = 0, squares = 0;
    int n = 0;
    void add(double v) { total += v, squares += v * v, ++n; }
    double mean() const { return total / n; }
    double error() const { return n > 1 ? std::sqrt(std::max(0.0, squares - total * total / n) / (n - 1) / n) : 0; }
};

}  // namespace

int run_demo(const DemoArguments& a) {
    BF_CHECK(a.seeds >= 1 && a.steps >= 0, "demo", "got --seeds ", a.seeds, ", --steps ", a.steps);
    const bool terminal = isatty(STDERR_FILENO) != 0;
    std::vector<ReportRun> runs;
    Sum accuracy[2], tar[2], seconds[2];
    std::string rows, lines;
    Verification pixels;
    for (int seed = 1; seed <= a.seeds; ++seed)
        for (const int broad : {0, 1}) remove_run(demo_config(a, seed, broad ? demo_queue : 0).output);
    for (int seed = 1; seed <= a.seeds; ++seed)
        for (const int broad : {0, 1}) {
            const RunConfig c = demo_config(a, seed, broad ? demo_queue : 0);
            if (runs.empty()) pixels = verify_pixels(open_validation(c.val[0], c.image_size));
            std::cerr << "\n== " << (broad ? "BroadFace, queue " + std::to_string(demo_queue) : "ArcFace") << ", seed "
                      << seed << " (" << runs.size() + 1 << " of " << 2 * a.seeds << ")\n";
            const SessionResult r = run_session(c, {.progress = &std::cerr, .terminal = terminal});
            const Verification& v = r.last.at(0);
            runs.push_back({r.folder.filename().string(), broad ? "BroadFace" : "ArcFace", r.folder});
            accuracy[broad].add(100 * v.folds.mean);
            tar[broad].add(100 * v.tar_at_1e2);
            seconds[broad].add(r.seconds);
            char line[256];
            std::snprintf(line, sizeof line, "%-10s %5d %6d   %6.2f +- %.2f   %6.2f   %6.2f   %7.1f\n",
                          broad ? "BroadFace" : "ArcFace", seed, broad ? static_cast<int>(demo_queue) : 0,
                          100 * v.folds.mean, 100 * v.folds.standard_error, 100 * v.tar_at_1e2, 100 * v.tar_at_1e3,
                          r.seconds);
            lines += line;
        }
    std::printf(
        "\nVerification on identities never seen in training (%% ; +- standard error over 10 folds)\n%-10s %5s %6s   "
        "%15s   %6s   %6s   %7s\n%s",
        "method", "seed", "queue", "accuracy", "@1e-2", "@1e-3", "seconds", lines.c_str());
    std::string html =
        "<h2>ArcFace and BroadFace, same seeds and steps</h2><div "
        "class=\"scroll\"><table><thead><tr><th>method</th><th>seeds</th><th>accuracy %</th><th>TAR % @ FAR 1e-2</th>"
        "<th>training s</th></tr></thead><tbody>";
    std::printf("\nmean over %d seed%s (+- standard error over seeds)\n", a.seeds, a.seeds == 1 ? "" : "s");
    for (const int broad : {0, 1}) {
        char line[256];
        std::snprintf(line, sizeof line, "%-10s accuracy %.2f +- %.2f   TAR@FAR 1e-2 %.2f +- %.2f   %.1f s a run",
                      broad ? "BroadFace" : "ArcFace", accuracy[broad].mean(), accuracy[broad].error(),
                      tar[broad].mean(), tar[broad].error(), seconds[broad].mean());
        std::printf("%s\n", line);
        std::snprintf(
            line, sizeof line,
            "<tr><td>%s</td><td>%d</td><td>%.2f &plusmn; %.2f</td><td>%.2f &plusmn; %.2f</td><td>%.1f</td></tr>",
            broad ? "BroadFace" : "ArcFace", a.seeds, accuracy[broad].mean(), accuracy[broad].error(),
            tar[broad].mean(), tar[broad].error(), seconds[broad].mean());
        html += line;
    }
    const double gain = accuracy[1].mean() - accuracy[0].mean(),
                 noise = std::hypot(accuracy[0].error(), accuracy[1].error());
    const char* verdict = a.seeds < 2                  ? "one seed decides nothing"
                          : std::abs(gain) < 2 * noise ? "within the noise of these seeds"
                          : gain > 0                   ? "BroadFace is ahead by more than twice the noise"
                                                       : "plain ArcFace is ahead by more than twice the noise";
    char line[256];
    std::snprintf(line, sizeof line, "difference %+.2f points of accuracy: %s. Pixel cosine alone: %.2f %%.", gain,
                  verdict, 100 * pixels.folds.mean);
    std::printf("%s\n", line);
    html += std::string("</tbody></table></div><p>") + line + "</p>";
    const std::filesystem::path report = std::filesystem::path(a.output) / "report.html";
    write_report(report, "BroadFace against ArcFace on drawn faces", runs, html);
    std::printf("report: %s\n", report.c_str());
    return 0;
}

}  // namespace bf::program
