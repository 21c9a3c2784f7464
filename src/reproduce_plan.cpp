#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "bf/base/error.hpp"
#include "bf/train/progress.hpp"
#include "chart.hpp"
#include "config_toml.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// FNV-1a of what a run's result follows from, ten hexadecimal digits. Keys at their defaults are left out, so that a
/// new key of a later version does not make old runs unknown; so are the folders that data lies in. At full scale sets
/// that turn up later are no reason to train again.
std::string hash_of(RunConfig c, bool full) {
    if (full) c.val.clear();
    std::vector<std::string*> paths{&c.pretrained, &c.data.root, &c.data.list};
    for (ValConfig& v : c.val) paths.insert(paths.end(), {&v.root, &v.pairs});
    for (std::string* path : paths) *path = fs::path(*path).lexically_normal().filename().string();
    RunConfig plain;
    plain.val.resize(c.val.size());
    c.output = plain.output;
    c.threads = plain.threads;
    c.num_workers = plain.num_workers;
    c.device = plain.device;
    c.kept_logits_mib = plain.kept_logits_mib;
    c.keep_checkpoints = plain.keep_checkpoints;
    c.checkpoint_every = plain.checkpoint_every;
    c.tensorboard = plain.tensorboard;
    std::string text = std::to_string(c.val.size());
    for (const ChangedKey& k : changed_keys(plain, c)) text += "\n" + k.key + "=" + k.now;
    std::uint64_t hash = 14695981039346656037ull;
    for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ull;
    char digits[24];
    std::snprintf(digits, sizeof digits, "%010llx", static_cast<unsigned long long>(hash >> 24));
    return digits;
}

std::vector<ExperimentRow> const& rows_of(const Experiment& x, const ReproduceArguments& a) {
    const bool full = a.scale == "full";
    const auto& rows = full ? x.full : x.small;
    BF_CHECK(!rows.empty(), "reproduce", x.name, " has no rows at --scale ", a.scale, "; hint: --scale ",
             full ? "small" : "full --data DIR");
    return rows;
}

}  // namespace

fs::path output_of(const ReproduceArguments& a) {
    if (!a.output.empty()) return a.output;
    return fs::path("runs/reproduce") / (a.name + (a.scale == "full" ? "-full" : ""));
}

std::string command_of(const ReproduceArguments& a, const std::vector<std::string>& rows) {
    std::string command = "bf reproduce " + a.name;
    if (a.scale != "small") command += " --scale " + a.scale + " --data " + a.data;
    for (std::size_t i = 0; i < a.seeds.size(); ++i) command += (i ? "," : " --seeds ") + std::to_string(a.seeds[i]);
    for (const std::string& row : rows) command += " --only " + row;
    if (!a.output.empty()) command += " --output " + a.output;
    if (a.experiments != ReproduceArguments{}.experiments) command += " --experiments " + a.experiments;
    if (!a.device.empty()) command += " --device " + a.device;
    return command;
}

std::vector<PlannedRun> plan_runs(const Experiment& x, const ReproduceArguments& a, std::vector<std::string>& missing) {
    const bool full = a.scale == "full";
    const std::vector<ExperimentRow>& rows = rows_of(x, a);
    std::vector<std::string> names;
    for (const ExperimentRow& r : rows) names.push_back(r.name);
    for (const std::string& only : a.rows) {
        if (std::find(names.begin(), names.end(), only) != names.end()) continue;
        const std::string near = nearest(only, names);
        std::string all;
        for (const std::string& n : names) all += " " + n;
        fail(ErrorCode::usage, "--only", "unknown row: ", only,
             "; hint: ", near.empty() ? "rows of " + x.name + ":" + all : "did you mean " + near + "?");
    }
    std::vector<PlannedRun> runs;
    for (const std::int64_t seed : !a.seeds.empty() ? a.seeds : full ? x.full_seeds : x.seeds)
        for (const ExperimentRow& row : rows) {
            if (!a.rows.empty() && std::find(a.rows.begin(), a.rows.end(), row.name) == a.rows.end()) continue;
            std::vector<std::string> settings = row.settings;
            settings.push_back("seed=" + std::to_string(seed));
            PlannedRun run;
            run.row = &row;
            run.seed = seed;
            run.config = row.config.empty() ? load_config_section(x.file, "config", settings)
                                            : load_config(x.file.parent_path() / row.config, settings);
            if (full)
                place_data(a, run.config, missing);
            else
                BF_CHECK(!run.config.val.empty(), x.file.string(), "row ", row.name, ": no verification set [[val]]");
            run.hash = hash_of(run.config, full);
            run.folder = output_of(a) / (row.name + "-seed" + std::to_string(seed) + "-" + run.hash);
            run.config.output = run.folder.string();
            if (a.threads > 0) run.config.threads = a.threads;
            if (!a.device.empty()) run.config.device = a.device;
            runs.push_back(std::move(run));
        }
    return runs;
}

double seconds_by_ledger(const PlannedRun& run, const Ledger& ledger, bool own_row) {
    double sum[2] = {0, 0};
    int n[2] = {0, 0};
    for (const RunResult& r : ledger.all()) {
        const bool own = r.row == run.row->name;
        const double seconds = r.wall_seconds > 0 ? r.wall_seconds : r.seconds;
        if (r.diverged || seconds <= 0) continue;
        sum[own] += seconds;
        ++n[own];
    }
    return n[1] ? sum[1] / n[1] : n[0] && !own_row ? sum[0] / n[0] : 0;
}

void print_plan(const Experiment& x, const ReproduceArguments& a, const std::vector<PlannedRun>& runs,
                const Ledger& ledger, const std::vector<std::string>& missing) {
    const auto gib = [](double bytes) {
        return bytes < 1 << 30 ? fixed(bytes / (1 << 20), 1) + " MiB" : fixed(bytes / (1 << 30), 2) + " GiB";
    };
    const auto duration = [](double s) { return s < 48 * 3600 ? clock_text(s) : fixed(s / (24 * 3600), 1) + " days"; };
    std::printf("%s: %s\n%s\n\n", x.name.c_str(), x.title.c_str(), x.question.c_str());
    const std::vector<Estimate> estimates = estimate_runs(x, runs, ledger);
    double seconds = 0, disk = 0;
    std::size_t open = 0, timed = 0, largest = 0;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const PlannedRun& run = runs[i];
        const Estimate& e = estimates[i];
        const StateOfRun s = state_of(run, ledger);
        const bool done = s.state == RunState::done || s.state == RunState::diverged;
        const std::string state = s.state == RunState::done       ? "done"
                                  : s.state == RunState::diverged ? "diverged"
                                  : s.state == RunState::resumes  ? concat("resumes at step ", s.step)
                                                                  : "missing";
        std::printf("  %-28s seed %-4lld %-24s %10s  %s\n", run.row->name.c_str(), static_cast<long long>(run.seed),
                    state.c_str(), done ? "" : duration(e.seconds).c_str(), run.folder.c_str());
        const auto memory = [](const Estimate& of) { return of.standing_bytes + of.activation_bytes; };
        if (memory(e) > memory(estimates[largest])) largest = i;
        if (done) continue;
        ++open;
        timed += !e.by_ledger;
        seconds += e.seconds;
        disk += e.disk_bytes;
    }
    const Estimate& e = estimates[largest];
    std::printf(
        "\n%zu of %zu runs are to be trained; rows run before: the runs' own time, else steps timed just now "
        "(%zu of them)\n",
        open, runs.size(), timed);
    std::error_code error;
    fs::path there = fs::absolute(output_of(a));
    while (!fs::exists(there) && there.has_parent_path() && there != there.parent_path()) there = there.parent_path();
    const fs::space_info space = fs::space(there, error);
    std::printf("time    %s, one run after the other\ndisk    %s in %s (%s free)\n", duration(seconds).c_str(),
                gib(disk).c_str(), output_of(a).c_str(),
                error ? "?" : gib(static_cast<double>(space.available)).c_str());
    std::printf(
        "memory  %s in the largest run (%s): weights, gradients and optimizer %s, queue %s, activations %s; this "
        "machine "
        "has %.1f GiB\n",
        gib(e.standing_bytes + e.activation_bytes).c_str(), runs[largest].row->name.c_str(),
        gib(e.standing_bytes - e.queue_bytes).c_str(), gib(e.queue_bytes).c_str(), gib(e.activation_bytes).c_str(),
        memory_gib());
    if (!missing.empty()) std::printf("\nmissing below %s:\n", a.data.empty() ? "--data DIR" : a.data.c_str());
    for (const std::string& m : missing) std::printf("  %s\n", m.c_str());
}

}  // namespace bf::program
