// bf reproduce: trains what an experiment's table misses, run by run, and writes the table again after each.
#include "reproduce.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>

#include "bf/base/error.hpp"
#include "bf/train/progress.hpp"
#include "folder_lock.hpp"
#include "session.hpp"
#include "stop_signal.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

int list_experiments(const ReproduceArguments& a) {
    const std::vector<Experiment> all = load_experiments(a.experiments);
    std::size_t width = 0;
    for (const Experiment& x : all) width = std::max(width, x.name.size());
    for (const Experiment& x : all) {
        const std::string scales = x.full.empty() ? "small" : x.small.empty() ? "full" : "small, full";
        std::printf("%-*s  %s (%s: %zu rows, %zu seeds)\n", static_cast<int>(width), x.name.c_str(), x.title.c_str(),
                    scales.c_str(), x.small.empty() ? x.full.size() : x.small.size(),
                    x.small.empty() ? x.full_seeds.size() : x.seeds.size());
    }
    return 0;
}

/// Trains one run, or goes on with it.
RunResult train(const PlannedRun& run, const StateOfRun& state, const std::string& experiment,
                const std::string& command, bool quiet, const volatile std::sig_atomic_t* stop) {
    // a run that was stopped before its first checkpoint has a folder that a new run would refuse
    const bool begun = fs::exists(run.folder / "config.toml");
    write_origin(run, experiment, command);
    const auto began = Clock::now();
    RunResult r;
    try {
        run_session(run.config, {.resume = begun,
                                 .progress = quiet ? nullptr : &std::cerr,
                                 .terminal = isatty(STDERR_FILENO) != 0,
                                 .stop = stop});
    } catch (const Error& e) {
        if (e.code() != ErrorCode::diverged) throw;
        std::fprintf(stderr, "bf: warning: %s\n", e.what());
        r.row = run.row->name;
        r.seed = run.seed;
        r.hash = run.hash;
        r.commit = commit();
        r.command = command;
        r.diverged = true;
        return r;
    }
    if (!read_result(run.folder, r))
        fail(ErrorCode::runtime, run.folder.string(), "the finished run cannot be read; hint: is the disk full?");
    if (state.state == RunState::missing) r.wall_seconds = std::chrono::duration<double>(Clock::now() - began).count();
    return r;
}

}  // namespace

int run_reproduce(const ReproduceArguments& a) {
    if (a.list) return list_experiments(a);
    BF_CHECK(!a.name.empty(), "reproduce", "want the name of an experiment; hint: bf reproduce --list names all");
    const Experiment x = load_experiment(a.experiments, a.name);
    const bool full = a.scale == "full";
    BF_CHECK(!full || !a.data.empty() || a.dry_run, "--scale full",
             "wants --data DIR, the folder of the data sets; hint: --dry-run says what must lie there");
    BF_CHECK(full || a.data.empty(), "--data", "goes with --scale full: the small scale draws its faces");
    std::vector<std::string> missing;
    const std::vector<PlannedRun> runs = plan_runs(x, a, missing);
    const fs::path folder = output_of(a);
    Ledger ledger(folder);
    std::vector<std::string> warnings;
    ledger.load(x.name, warnings);
    for (const std::string& w : warnings) std::fprintf(stderr, "bf: warning: %s\n", w.c_str());
    if (a.dry_run) {
        print_plan(x, a, runs, ledger, missing);
        return 0;
    }
    if (!missing.empty()) {
        std::string lines;
        for (const std::string& m : missing) lines += "\n  " + m;
        fail(ErrorCode::data, "--data", "missing in ", a.data, ":", lines);
    }
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail(ErrorCode::runtime, folder.string(), "cannot be made: ", error.message());
    const auto* const stop = stop_on_signal();
    std::string table = write_tables(x, a, runs, ledger, folder);
    std::size_t number = 0;
    for (const PlannedRun& run : runs) {
        ++number;
        const StateOfRun state = state_of(run, ledger);
        if (state.state == RunState::done || state.state == RunState::diverged) continue;
        const std::string name = concat(run.row->label, ", seed ", run.seed, " (", number, " of ", runs.size(), ")");
        if (FolderLock::held(run.folder)) {
            if (!a.quiet) std::fprintf(stderr, "== %s: another process trains it, passed over\n", name.c_str());
            continue;
        }
        if (!a.quiet) {
            double left = 0;
            for (const PlannedRun& other : runs)
                if (!ledger.find(other)) left += seconds_by_ledger(other, ledger);
            std::fprintf(stderr, "\n== %s%s\n", name.c_str(),
                         left > 0 ? (", about " + clock_text(left) + " left for all").c_str() : "");
        }
        try {
            ledger.add(x.name, train(run, state, x.name, command_of(a, {run.row->name}), a.quiet, stop));
        } catch (const Error& e) {
            if (e.code() != ErrorCode::stopped) throw;
            fail(ErrorCode::stopped, "reproduce", "stopped by a signal in the run ", name,
                 " with a checkpoint written; hint: the same command goes on: ", command_of(a, a.rows));
        }
        table = write_tables(x, a, runs, ledger, folder);
    }
    std::printf("%s\ntable: %s, table.csv, index.html\n", table.c_str(), (folder / "table.md").c_str());
    return 0;
}

}  // namespace bf::program
