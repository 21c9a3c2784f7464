#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "bf/io/checkpoint.hpp"
#include "bf/train/metrics.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

constexpr const char* measured = "ours-measured";
constexpr const char* diverged_status = "ours-diverged";

std::string read_text(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string to_json(const RunResult& r) {
    std::string out = concat(
        "{\"row\":", json_quote(r.row), ",\"seed\":", r.seed, ",\"hash\":", json_quote(r.hash),
        ",\"status\":", json_quote(r.diverged ? diverged_status : measured), ",\"commit\":", json_quote(r.commit),
        ",\"command\":", json_quote(r.command), ",\"steps\":", r.steps, ",\"seconds\":", json_number(r.seconds),
        ",\"wall_seconds\":", json_number(r.wall_seconds), ",\"peak_bytes\":", json_number(r.peak_bytes));
    if (!r.evals.empty()) {
        const auto values_at = [&](std::uint64_t step) {
            std::string values = concat("{\"step\":", step);
            for (const auto& [key, ignored] : r.evals.front().values)
                values += concat(",", json_quote(key), ":", json_number(r.at(step, key)));
            return values + "}";
        };
        out += ",\"last\":" + values_at(r.last_step()) + ",\"best\":{";
        bool first = true;
        for (const auto& [key, ignored] : r.evals.front().values) {
            const std::uint64_t step = r.best_step(key);
            out += concat(first ? "" : ",", json_quote(key), ":{\"step\":", step,
                          ",\"value\":", json_number(r.at(step, key)), "}");
            first = false;
        }
        out += "}";
    }
    out += ",\"evals\":[";
    for (std::size_t i = 0; i < r.evals.size(); ++i) {
        const EvalPoint& e = r.evals[i];
        out += concat(i ? "," : "", "{\"step\":", e.step, ",\"set\":", json_quote(e.set));
        for (const auto& [key, value] : e.values) out += "," + json_quote(key) + ":" + json_number(value);
        out += "}";
    }
    return out + "]}";
}

/// A member that must be there.
const Json& member(const Json& object, const std::string& key, Json::Kind kind, const std::string& file) {
    const Json* value = object.find(key);
    BF_CHECK_DATA(value && value->is(kind), file, key, ": missing or of another kind");
    return *value;
}

RunResult from_json(const Json& j, const std::string& file) {
    using Kind = Json::Kind;
    RunResult r;
    r.row = member(j, "row", Kind::string, file).string;
    r.hash = member(j, "hash", Kind::string, file).string;
    r.commit = member(j, "commit", Kind::string, file).string;
    r.command = member(j, "command", Kind::string, file).string;
    r.seed = member(j, "seed", Kind::number, file).whole();
    r.steps = static_cast<std::uint64_t>(std::max<std::int64_t>(0, member(j, "steps", Kind::number, file).whole()));
    r.seconds = member(j, "seconds", Kind::number, file).number;
    r.wall_seconds = member(j, "wall_seconds", Kind::number, file).number;
    r.peak_bytes = member(j, "peak_bytes", Kind::number, file).number;
    const std::string status = member(j, "status", Kind::string, file).string;
    BF_CHECK_DATA(status == measured || status == diverged_status, file, "status: got ", status);
    r.diverged = status == diverged_status;
    for (const Json& e : member(j, "evals", Kind::array, file).array) {
        EvalPoint point{
            static_cast<std::uint64_t>(std::max<std::int64_t>(0, member(e, "step", Kind::number, file).whole())),
            member(e, "set", Kind::string, file).string,
            {}};
        for (const auto& [key, value] : e.object)
            if (key != "step" && value.is(Kind::number)) point.values[key] = value.number;
        r.evals.push_back(std::move(point));
    }
    return r;
}

}  // namespace

// ---- results

double RunResult::at(std::uint64_t step, const std::string& metric, const std::string& set) const {
    double sum = 0;
    int n = 0;
    for (const EvalPoint& e : evals) {
        const auto found = e.values.find(metric);
        if (e.step != step || (!set.empty() && e.set != set) || found == e.values.end()) continue;
        sum += found->second;
        ++n;
    }
    return n ? sum / n : std::numeric_limits<double>::quiet_NaN();
}

std::uint64_t RunResult::last_step() const {
    std::uint64_t last = 0;
    for (const EvalPoint& e : evals) last = std::max(last, e.step);
    return last;
}

std::uint64_t RunResult::best_step(const std::string& metric, const std::string& set) const {
    const bool less = metric_facts(metric).sense == Sense::less_is_better;
    std::uint64_t best = last_step();
    double best_value = std::numeric_limits<double>::quiet_NaN();
    for (const EvalPoint& e : evals) {
        const double value = at(e.step, metric, set);
        if (std::isnan(value)) continue;
        if (std::isnan(best_value) || (less ? value < best_value : value > best_value)) {
            best = e.step;
            best_value = value;
        }
    }
    return best;
}

// ---- the folder of a run

void write_origin(const PlannedRun& run, const std::string& experiment, const std::string& command) {
    const fs::path file = run.folder / "origin.json";
    std::string commits = commit();
    if (fs::exists(file)) try {  // begun by another build: both are named
            const std::string before = parse_json(read_text(file), file.string()).string_or("commit", "");
            if (!before.empty() && (", " + before + ",").find(", " + commits + ",") == std::string::npos)
                commits = before + ", " + commits;
            else if (!before.empty())
                commits = before;
        } catch (const Error&) {
            commits = "unknown, " + commits;
        }
    fs::create_directories(run.folder);
    write_file(file, Record("origin")
                         .put("experiment", experiment)
                         .put("row", run.row->name)
                         .put("seed", static_cast<double>(run.seed))
                         .put("hash", run.hash)
                         .put("commit", commits)
                         .put("command", command)
                         .line());
}

namespace {

/// Which run a folder with a finished model is of.
bool read_origin(const fs::path& folder, RunResult& r) {
    const fs::path file = folder / "origin.json";
    if (!fs::exists(file) || !fs::exists(folder / "model.safetensors")) return false;
    Json origin;
    try {
        origin = parse_json(read_text(file), file.string());
    } catch (const Error&) {
        return false;
    }
    r = {};
    r.row = origin.string_or("row", "");
    r.hash = origin.string_or("hash", "");
    r.commit = origin.string_or("commit", "unknown");
    r.command = origin.string_or("command", "");
    r.seed = static_cast<std::int64_t>(origin.number_or("seed", -1));
    return true;
}

/// What metrics.jsonl adds to that, if it has an end.
bool read_records(const fs::path& folder, RunResult& r) {
    const std::vector<Json> records = read_metrics(folder / "metrics.jsonl");
    if (records.empty() || records.back().string_or("kind", "") != "end") return false;
    r.steps = static_cast<std::uint64_t>(records.back().number_or("step", 0));
    r.seconds = records.back().number_or("seconds", 0);
    r.peak_bytes = records.back().number_or("peak_bytes", 0);
    for (const Json& j : records) {
        const std::string kind = j.string_or("kind", "");
        EvalPoint point{static_cast<std::uint64_t>(j.number_or("step", 0)), j.string_or("name", kind), {}};
        for (const auto& [metric, key] : metrics_of_record(kind))
            if (const Json* value = j.find(key); value && value->is(Json::Kind::number))
                point.values[metric] = value->number;
        if (!point.values.empty()) r.evals.push_back(std::move(point));
    }
    return true;
}

}  // namespace

bool read_result(const fs::path& folder, RunResult& r) { return read_origin(folder, r) && read_records(folder, r); }

// ---- the ledger

void Ledger::load(const std::string& experiment, std::vector<std::string>& warnings) {
    results_.clear();
    if (fs::exists(file_)) try {
            const Json whole = parse_json(read_text(file_), file_.string());
            for (const Json& j : member(whole, "runs", Json::Kind::array, file_.string()).array)
                results_.push_back(from_json(j, file_.string()));
        } catch (const Error& e) {
            if (e.code() != ErrorCode::data) throw;
            results_.clear();
            const std::string aside = file_.string() + ".damaged";
            fs::rename(file_, aside);
            warnings.push_back(concat(e.what(), "; it is ", aside, " now and is made again from the runs' folders"));
        }
    // finished runs speak for themselves, where the ledger was lost or cut off before it was written
    std::error_code error;
    std::vector<fs::path> folders;
    for (const auto& entry : fs::directory_iterator(file_.parent_path(), error))
        if (entry.is_directory()) folders.push_back(entry.path());
    std::sort(folders.begin(), folders.end());
    bool more = false;
    for (const fs::path& folder : folders)
        // metrics of long runs are many: those of known runs are not read again
        if (RunResult r; read_origin(folder, r) && !find(r.row, r.seed, r.hash) && read_records(folder, r)) {
            results_.push_back(std::move(r));
            more = true;
        }
    if (more) write(experiment);
}

void Ledger::add(const std::string& experiment, const RunResult& result) {
    if (fs::exists(file_)) {  // another call may have added runs since
        std::vector<std::string> ignored;
        load(experiment, ignored);
    }
    std::erase_if(results_, [&](const RunResult& r) {
        return r.row == result.row && r.seed == result.seed && r.hash == result.hash;
    });
    results_.push_back(result);
    write(experiment);
}

void Ledger::write(const std::string& experiment) const {
    std::string out = "{\"kind\":\"reproduce\",\"experiment\":" + json_quote(experiment) + ",\"runs\":[\n";
    for (std::size_t i = 0; i < results_.size(); ++i)
        out += to_json(results_[i]) + (i + 1 < results_.size() ? ",\n" : "\n");
    write_file(file_, out + "]}\n");
}

const RunResult* Ledger::find(const std::string& row, std::int64_t seed, const std::string& hash) const {
    for (const RunResult& r : results_)
        if (r.row == row && r.seed == seed && r.hash == hash) return &r;
    return nullptr;
}

StateOfRun state_of(const PlannedRun& run, const Ledger& ledger) {
    if (const RunResult* r = ledger.find(run)) return {r->diverged ? RunState::diverged : RunState::done, r->steps};
    const CheckpointFolder checkpoints(run.folder / "checkpoints");
    if (!fs::exists(run.folder / "checkpoints") || checkpoints.list().empty()) return {};
    const std::string name = checkpoints.list().back().stem().string();  // step-000000123
    return {RunState::resumes, std::strtoull(name.c_str() + name.rfind('-') + 1, nullptr, 10)};
}

}  // namespace bf::program
