#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bf/train/config.hpp"
#include "commands.hpp"
#include "experiment.hpp"

// The parts of bf reproduce: what is to be run, what ran, and the table of it.

namespace bf::program {

/// One run that an experiment asks for.
struct PlannedRun {
    const ExperimentRow* row = nullptr;
    std::int64_t seed = 0;
    RunConfig config;
    std::string hash;              ///< of what decides the result: neither folder, threads nor device
    std::filesystem::path folder;  ///< OUTPUT/ROW-seedN-HASH
};

/// One evaluation of a set during a run.
struct EvalPoint {
    std::uint64_t step = 0;
    std::string set;
    std::map<std::string, double> values;  ///< "accuracy", ...: shares, not per cent
};

/// What a run came to.
struct RunResult {
    std::string row, hash, commit, command;
    std::int64_t seed = 0;
    bool diverged = false;
    double seconds = 0;       ///< of training
    double wall_seconds = 0;  ///< with evaluations; 0: not known, the run was resumed
    double peak_bytes = 0;
    std::uint64_t steps = 0;
    std::vector<EvalPoint> evals;

    /// Mean over the sets (or one of them) at a step; NaN where there is none.
    double at(std::uint64_t step, const std::string& metric, const std::string& set = "") const;
    /// The step of the last evaluation.
    std::uint64_t last_step() const;
    /// The step where the metric is best.
    std::uint64_t best_step(const std::string& metric, const std::string& set = "") const;
};

/// Which way a metric is better.
enum class Sense { more_is_better, less_is_better, neither };
/// How a metric is called and printed.
struct MetricFacts {
    const char *key, *name;
    double unit;  ///< that a value is multiplied by
    int digits;
    Sense sense;
    bool at_end;       ///< measured for its own sake: the last value alone counts, and no epoch is chosen by it
    const char* note;  ///< what its name leaves open
};
/// A usage Error, which names `where`, for an unknown one.
const MetricFacts& metric_facts(const std::string& key, const std::string& where = "reproduce");
/// Metrics in records of a kind of metrics.jsonl (eval, classifier, queue), with the names that they have there.
std::vector<std::pair<std::string, std::string>> metrics_of_record(const std::string& kind);

/// OUTPUT/results.json: every run that finished, kept though its configuration is no longer asked for.
class Ledger {
  public:
    explicit Ledger(std::filesystem::path folder) : file_(std::move(folder) / "results.json") {}

    /// Reads the file again. A damaged one is moved aside, with a warning; runs that
    /// it lacks are taken from their folders.
    void load(const std::string& experiment, std::vector<std::string>& warnings);
    /// Adds a run to what the file says now, and writes it whole or not at all.
    void add(const std::string& experiment, const RunResult& result);
    const RunResult* find(const std::string& row, std::int64_t seed, const std::string& hash) const;
    const RunResult* find(const PlannedRun& run) const { return find(run.row->name, run.seed, run.hash); }
    const std::vector<RunResult>& all() const { return results_; }

  private:
    void write(const std::string& experiment) const;
    std::filesystem::path file_;
    std::vector<RunResult> results_;
};

/// What is written into a run's folder before it starts, so that its result can be told from the folder alone.
void write_origin(const PlannedRun& run, const std::string& experiment, const std::string& command);
/// The result that a run's folder holds, if it is finished.
bool read_result(const std::filesystem::path& folder, RunResult& result);

enum class RunState { done, diverged, resumes, missing };
struct StateOfRun {
    RunState state = RunState::missing;
    std::uint64_t step = 0;  ///< of the checkpoint that it resumes from
};
StateOfRun state_of(const PlannedRun& run, const Ledger& ledger);

/// The runs that the arguments ask for, all rows of the first seed first. At full scale `missing` gets a line for each
/// file that is not there.
std::vector<PlannedRun> plan_runs(const Experiment& experiment, const ReproduceArguments& arguments,
                                  std::vector<std::string>& missing);
/// Prints runs with their states, and what they need of time, disk and memory.
void print_plan(const Experiment& experiment, const ReproduceArguments& arguments, const std::vector<PlannedRun>& runs,
                const Ledger& ledger, const std::vector<std::string>& missing);
/// Seconds that a run will take by runs that are done: of its own row if there are such, else of all unless `own_row`
/// is asked for; 0: not known.
double seconds_by_ledger(const PlannedRun& run, const Ledger& ledger, bool own_row = false);

/// What a run needs.
struct Estimate {
    double seconds = 0;
    bool by_ledger = false;  ///< its row ran before; else steps of the real network were timed
    double disk_bytes = 0, model_bytes = 0;
    double standing_bytes = 0, queue_bytes = 0, activation_bytes = 0;  ///< memory; standing has the queue in it
};
/// Of each of `runs`; times a few steps of each network.
std::vector<Estimate> estimate_runs(const Experiment& experiment, const std::vector<PlannedRun>& runs,
                                    const Ledger& ledger);

// ---- the full scale

/// Puts --data before the paths of a configuration of configs/paper and gives it the verification sets that are there.
void place_data(const ReproduceArguments& arguments, RunConfig& config, std::vector<std::string>& missing);
/// A number that bf eval wrote into RUN/eval, named as the paper's is: "IJB-B TAR@FAR=1e-5"; a share.
std::optional<double> other_figure(const PlannedRun& run, const std::string& what);
/// The command that makes it; empty if none does.
std::string other_command(const ReproduceArguments& arguments, const PlannedRun& run, const std::string& what);

// ---- the table

/// Writes table.md, table.csv, index.html and curve-*.csv, which bf plot draws; gives the Markdown.
std::string write_tables(const Experiment& experiment, const ReproduceArguments& arguments,
                         const std::vector<PlannedRun>& runs, const Ledger& ledger,
                         const std::filesystem::path& folder);

/// Where an experiment's results go.
std::filesystem::path output_of(const ReproduceArguments& arguments);
/// The command that makes these rows.
std::string command_of(const ReproduceArguments& arguments, const std::vector<std::string>& rows = {});

/// The git commit of the build, "unknown" without git.
std::string commit();

}  // namespace bf::program
