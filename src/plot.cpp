// bf plot: metrics of runs, curves of protocol reports and scores of pairs as SVG.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <utility>

#include "bf/eval/roc.hpp"
#include "bf/io/lines.hpp"
#include "bf/io/npy.hpp"
#include "bf/train/metrics.hpp"
#include "chart.hpp"
#include "commands.hpp"
#include "config_toml.hpp"
#include "csv.hpp"
#include "drift_charts.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;
using Points = std::vector<std::pair<double, double>>;

/// What the inputs of a picture are.
enum class Kind { metrics, curves, scores };

/// An input, read.
struct Input {
    std::string name;  ///< in the legend
    Kind kind = Kind::metrics;
    std::vector<Json> records;                           ///< of metrics
    std::map<std::string, Points> metrics;               ///< by tag: train/loss, ...
    std::string x_label, y_label;                        ///< of curves
    std::vector<std::pair<std::string, Points>> curves;  ///< by series
    std::vector<double> scores;
    std::vector<char> same;
};

// ---- reading

/// The numbers of a metrics.jsonl over steps, under the tags of the event files; a file of other records is read over
/// its line numbers where it has no steps.
void read_metrics_input(const fs::path& file, Input& input) {
    std::string warning;
    input.records = read_metrics(file, &warning);
    if (!warning.empty()) std::fprintf(stderr, "bf: warning: records end at a damaged line: %s\n", warning.c_str());
    double line = 0;
    for (const Json& r : input.records) {
        ++line;
        const std::string kind = r.string_or("kind", "");
        const std::string group = kind == "step" ? "train" : kind == "eval" ? r.string_or("name", "val") : kind;
        for (const auto& [key, value] : r.object)
            if (value.is(Json::Kind::number) && key != "step" && kind != "end")
                input.metrics[(group.empty() ? "" : group + "/") + key].emplace_back(r.number_or("step", line),
                                                                                     value.number);
    }
    BF_CHECK_DATA(!input.metrics.empty(), file.string(), "holds no number to draw; hint: has the run got to its first ",
                  "record (the key frequent)?");
}

/// The fields of a line of CSV in any of its dialects, without the blanks around them.
std::vector<std::string> trimmed_fields(std::string_view line) {
    std::vector<std::string> fields = csv_fields(line, ",\t;");
    for (std::string& f : fields) {
        f.erase(0, f.find_first_not_of(" \r"));
        f.erase(f.find_last_not_of(" \r") + 1);
    }
    return fields;
}
bool to_number(const std::string& text, double& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

/// Takes the pairs of a score file in; a label is 1 for the same person, 0 for different ones.
void add_score(Input& input, const std::string& where, double score, double label) {
    BF_CHECK_DATA(std::isfinite(score), where, "score; got ", score, ", want a finite number");
    BF_CHECK_DATA(label == 0 || label == 1, where, "label; got ", label, ", want 1 (same) or 0 (different)");
    input.scores.push_back(score);
    input.same.push_back(label == 1);
}

/// Where a score and its label stand in a line of a score file.
struct ScoreColumns {
    std::size_t score = 0, label = 1, all = 2;
    bool header = false;  ///< the line that they were read from is no data
};

/// From the first line: a header that names them (such as bf eval's scores.csv), or two columns.
ScoreColumns score_columns(const std::vector<std::string>& first, const std::string& where) {
    const auto column = [&](std::initializer_list<const char*> names) {
        const auto found = std::find_if(first.begin(), first.end(), [&](const std::string& f) {
            return std::find(names.begin(), names.end(), f) != names.end();
        });
        return static_cast<std::size_t>(found - first.begin());
    };
    const ScoreColumns named{column({"score", "similarity", "cosine", "distance"}), column({"label", "same", "issame"}),
                             first.size(), true};
    if (std::max(named.score, named.label) < first.size()) return named;
    BF_CHECK_DATA(first.size() == 2, where, "got ", first.size(),
                  " columns, want two (score,label), a header with `score` and `label` or `same`, or the header "
                  "series,X,Y; hint: figures and tables of a report are not curves");
    double number;
    return {0, 1, 2, !to_number(first[0], number)};
}

/// series,x,y of a protocol report; or scores and labels of pairs.
void read_csv_input(const fs::path& file, Input& input) {
    const FileSource source(file);
    LineReader in(source, {.max_line = 65536});
    ScoreColumns columns;
    bool first = true;
    for (std::string_view line; in.next_filled(line);) {
        const std::vector<std::string> fields = trimmed_fields(line);
        if (std::exchange(first, false)) {
            input.kind = fields.size() == 3 && fields[0] == "series" ? Kind::curves : Kind::scores;
            if (input.kind == Kind::curves) {
                input.x_label = fields[1];
                input.y_label = fields[2];
                continue;
            }
            columns = score_columns(fields, in.where());
            if (columns.header) continue;
        }
        const bool curves = input.kind == Kind::curves;
        const std::size_t x = curves ? 1 : columns.score, y = curves ? 2 : columns.label;
        double values[2] = {};
        if (fields.size() != (curves ? 3 : columns.all) || !to_number(fields[x], values[0]) ||
            !to_number(fields[y], values[1]))
            in.bad("not as the first line says", curves ? "series,number,number" : "numbers for score and label", line);
        if (!curves) {
            add_score(input, in.where(), values[0], values[1]);
        } else {
            if (input.curves.empty() || input.curves.back().first != fields[0]) input.curves.push_back({fields[0], {}});
            if (std::isfinite(values[0]) && std::isfinite(values[1]))
                input.curves.back().second.emplace_back(values[0], values[1]);
        }
    }
    BF_CHECK_DATA(!input.curves.empty() || !input.scores.empty(), file.string(), "holds no points");
}

/// [N, 2]: score and label.
void read_npy_input(const fs::path& file, Input& input) {
    const Tensor t = load_npy(file);
    BF_CHECK_DATA(t.rank() == 2 && t.dim(1) == 2 && (t.dtype() == DType::f32 || t.dtype() == DType::f64), file.string(),
                  "got ", t.str(), ", want [N, 2] of f32 or f64: score and label (1 same, 0 different)");
    input.kind = Kind::scores;
    visit_real(t.dtype(), "plot", [&]<class T>() {
        const T* row = t.data<T>();
        for (std::int64_t i = 0; i < t.dim(0); ++i)
            add_score(input, concat(file.string(), ", row ", i), static_cast<double>(row[2 * i]),
                      static_cast<double>(row[2 * i + 1]));
    });
}

Input read_input(const std::string& given) {
    fs::path path = given;
    std::error_code ignored;
    BF_CHECK_DATA(fs::exists(path, ignored), given,
                  "is not there; want a run folder, a metrics.jsonl, a .csv or a .npy");
    const bool folder = fs::is_directory(path, ignored);
    if (folder) {
        path /= "metrics.jsonl";
        BF_CHECK_DATA(fs::exists(path, ignored), given,
                      "is no run: it has no metrics.jsonl; hint: of a report's folder name one of its .csv files");
    }
    const std::string ending = path.extension().string();
    BF_CHECK_DATA(ending == ".jsonl" || ending == ".csv" || ending == ".npy", given, "ending; got '", ending,
                  "', want .jsonl (metrics), .csv (curves of a report, or score,label) or .npy (score, label)");
    Input input;
    if (ending == ".jsonl") {
        read_metrics_input(path, input);
    } else if (ending == ".csv") {
        read_csv_input(path, input);
    } else {
        read_npy_input(path, input);
    }
    const fs::path full = fs::absolute(folder ? path.parent_path() : path).lexically_normal();
    input.name =
        ending != ".jsonl" ? full.stem().string()
        : path.filename() == "metrics.jsonl"
            ? full.filename() == "metrics.jsonl" ? full.parent_path().filename().string() : full.filename().string()
            : full.stem().string();
    return input;
}

/// Names that are equal become the arguments themselves.
void tell_apart(std::vector<Input>& inputs, const std::vector<std::string>& given) {
    std::map<std::string, int> count;
    for (const Input& i : inputs) ++count[i.name];
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (count[inputs[i].name] > 1) inputs[i].name = given[i];
}

// ---- drawing

/// Mean over a window of `count` points around each, narrower at the ends.
Points smoothed(const Points& points, std::size_t count) {
    const std::size_t n = points.size(), half = count / 2;
    std::vector<double> sums(n + 1, 0);
    for (std::size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + points[i].second;
    Points out;
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t reach = std::min({half, i, n - 1 - i});
        out.emplace_back(points[i].first, (sums[i + reach + 1] - sums[i - reach]) / static_cast<double>(2 * reach + 1));
    }
    return out;
}

/// Which tags of the inputs are drawn: those that a key names in full or by its last part; without keys what a run is
/// first looked at for.
std::vector<std::string> chosen_tags(const std::vector<Input>& inputs, const std::vector<std::string>& keys) {
    std::set<std::string> tags;
    for (const Input& i : inputs)
        for (const auto& [tag, ignored] : i.metrics) tags.insert(tag);
    const auto last = [](const std::string& tag) { return tag.substr(tag.rfind('/') + 1); };
    std::vector<std::string> chosen;
    const auto take = [&](const std::string& tag) {
        if (std::find(chosen.begin(), chosen.end(), tag) == chosen.end()) chosen.push_back(tag);
    };
    if (keys.empty()) {
        for (const char* key : {"train/loss", "train/lr"})
            if (tags.count(key)) take(key);
        for (const std::string& tag : tags)
            if ((last(tag) == "accuracy" && tag != "train/accuracy") || tag == "queue/cos_compensated") take(tag);
        if (chosen.empty())  // records of something else
            for (const std::string& tag : tags)
                if (chosen.size() < 12) take(tag);
    }
    for (const std::string& key : keys) {
        bool found = false;
        for (const std::string& tag : tags)
            if (tag == key || last(tag) == key) {
                take(tag);
                found = true;
            }
        if (found) continue;
        std::vector<std::string> known(tags.begin(), tags.end());
        std::string all;
        for (const std::string& tag : tags) {
            all += (all.empty() ? "" : ", ") + tag;
            known.push_back(last(tag));
        }
        const std::string near = nearest(key, known);
        fail(ErrorCode::usage, "--keys", "no key ", key, near.empty() ? "" : "; hint: did you mean " + near + "?",
             "; there are ", all);
    }
    return chosen;
}

std::vector<Chart> charts_of_metrics(const std::vector<Input>& inputs, const PlotArguments& a) {
    std::vector<Chart> charts;
    for (const std::string& tag : chosen_tags(inputs, a.keys)) {
        Chart c{.title = tag, .x_label = "step", .y_label = tag.substr(tag.rfind('/') + 1), .log_x = a.log_x};
        c.log_y = a.log_y;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const auto found = inputs[i].metrics.find(tag);
            if (found == inputs[i].metrics.end()) continue;
            const Points& points = found->second;
            const std::size_t window = a.smooth >= 0        ? static_cast<std::size_t>(a.smooth)
                                       : points.size() < 48 ? 0
                                                            : points.size() / 12;
            const int colour = static_cast<int>(i);
            if (window > 1) c.series.push_back({"", colour, points, true});
            c.series.push_back(
                {inputs.size() > 1 ? inputs[i].name : "", colour, window > 1 ? smoothed(points, window) : points});
        }
        charts.push_back(std::move(c));
    }
    return charts;
}

/// The queue's rows against the network of now: by age at the steps asked for (the last one), over steps, identities.
std::vector<Chart> charts_of_drift(const std::vector<Input>& inputs, const PlotArguments& a) {
    std::vector<DriftRun> runs;
    for (const Input& i : inputs)
        runs.push_back({inputs.size() > 1 ? i.name : "", static_cast<int>(runs.size()), &i.records});
    const std::vector<double> there = drift_steps(runs);
    BF_CHECK_DATA(!there.empty(), a.inputs[0],
                  "has no queue record with errors by age; hint: bf train with broadface.queue and "
                  "broadface.drift_rows above 0 writes one at each evaluation (the key verbose)");
    std::vector<double> steps(a.steps.begin(), a.steps.end());
    if (steps.empty()) steps.push_back(there.back());
    for (const double step : steps) {
        std::string all;
        for (const double t : there) all += (all.empty() ? "" : ", ") + fixed(t, 0);
        BF_CHECK(std::count(there.begin(), there.end(), step), "--steps", "no queue record of step ", fixed(step, 0),
                 "; there are ", all);
    }
    std::vector<Chart> charts = charts_by_age(runs, steps);
    charts.push_back(chart_of_error(runs));
    charts.push_back(chart_of_identities(runs));
    for (Chart& c : charts) {
        c.log_x = a.log_x;
        c.log_y = a.log_y && c.title.rfind("Cosine", 0) != 0;  // cosines fall below 0
    }
    return charts;
}

std::vector<Chart> charts_of_curves(const std::vector<Input>& inputs, const PlotArguments& a) {
    Chart c{.title = inputs.size() == 1 ? inputs[0].name : inputs[0].y_label + " over " + inputs[0].x_label,
            .x_label = inputs[0].x_label,
            .y_label = inputs[0].y_label};
    double low = HUGE_VAL, high = 0;
    for (const Input& i : inputs)
        for (const auto& [series, points] : i.curves) {
            if (!a.keys.empty() && std::find(a.keys.begin(), a.keys.end(), series) == a.keys.end()) continue;
            const std::string name = inputs.size() == 1 ? series : i.name + (series.empty() ? "" : " " + series);
            c.series.push_back({name, static_cast<int>(c.series.size()), points});
            for (const auto& [x, y] : points)
                if (x > 0) low = std::min(low, x), high = std::max(high, x);
        }
    if (c.series.empty()) {
        std::string all;
        for (const Input& i : inputs)
            for (const auto& [series, ignored] : i.curves) all += (all.empty() ? "" : ", ") + series;
        fail(ErrorCode::usage, "--keys", "no such series; there are ", all);
    }
    c.log_x = a.log_x || high / low > 1e3;  // rates of false acceptance
    c.log_y = a.log_y;
    return {c};
}

/// The ROC's points that a picture shows apart: the best of each of 300 steps in log FAR.
Points thinned(const Roc& roc) {
    Points out;
    double last = -HUGE_VAL;
    for (const RocPoint& p : roc.points()) {
        if (p.far <= 0) continue;
        const double step = std::floor(300 * std::log10(p.far) / 7);
        if (step == last) {
            out.back() = {p.far, p.tar};
        } else {
            out.emplace_back(p.far, p.tar);
        }
        last = step;
    }
    return out;
}
/// The share of some scores in each of 60 bins over [low, high], as an outline.
Points histogram(const Input& input, bool same, double low, double high) {
    constexpr int bins = 60;
    std::vector<double> counts(bins, 0);
    double all = 0;
    for (std::size_t i = 0; i < input.scores.size(); ++i) {
        if ((input.same[i] != 0) != same) continue;
        const int bin = high > low ? static_cast<int>((input.scores[i] - low) / (high - low) * bins) : 0;
        counts[static_cast<std::size_t>(std::min(bin, bins - 1))] += 1;
        all += 1;
    }
    Points out{{low, 0}};
    for (int b = 0; b < bins; ++b)
        for (const int edge : {b, b + 1})
            out.emplace_back(low + (high - low) * edge / bins, counts[static_cast<std::size_t>(b)] / all);
    out.emplace_back(high, 0);
    return out;
}

std::vector<Chart> charts_of_scores(std::vector<Input>& inputs, const PlotArguments& a) {
    Chart roc{.title = "ROC", .x_label = "FAR", .y_label = "TAR", .log_x = true};
    Chart det{.title = "DET", .x_label = "FAR", .y_label = "FRR = 1 - TAR", .log_x = true};
    det.log_y = true;
    Chart spread{.title = "Scores", .x_label = a.distances ? "- distance" : "score", .y_label = "share of pairs"};
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (Input& i : inputs)
        for (double& s : i.scores) {
            if (a.distances) s = -s;
            low = std::min(low, s), high = std::max(high, s);
        }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Input& input = inputs[i];
        const bool both = std::count(input.same.begin(), input.same.end(), 1) > 0 &&
                          std::count(input.same.begin(), input.same.end(), 0) > 0;
        BF_CHECK_DATA(both, input.name, "has pairs of one kind alone; want labels 1 (same) and 0 (different)");
        const Roc curve(input.scores, input.same);
        const int colour = static_cast<int>(i);
        const std::string name = inputs.size() > 1 ? input.name : "";
        const Points points = thinned(curve);
        Points misses = points;
        for (auto& [far, rate] : misses) rate = 1 - rate;
        roc.series.push_back({name, colour, points});
        det.series.push_back({name, colour, std::move(misses)});
        const std::string prefix = inputs.size() > 1 ? input.name + " " : "";
        spread.series.push_back({prefix + "same", 2 * colour, histogram(input, true, low, high)});
        spread.series.push_back({prefix + "different", 2 * colour + 1, histogram(input, false, low, high)});
        std::printf("%s: %zu pairs, AUC %.5f, EER %.4f, TAR %.4f @ FAR 1e-2, %.4f @ 1e-3\n", input.name.c_str(),
                    input.scores.size(), curve.auc(), curve.eer(), curve.tar_at(1e-2), curve.tar_at(1e-3));
    }
    return {roc, det, spread};
}

}  // namespace

int run_plot(const PlotArguments& a) {
    BF_CHECK(!a.inputs.empty(), "plot", "want a run folder, metrics.jsonl, .csv or .npy");
    fs::path out = a.out;
    std::error_code ignored;
    if (a.out.empty()) {
        const fs::path only = a.inputs[0];
        out = a.inputs.size() > 1               ? fs::path("plot.svg")
              : fs::is_directory(only, ignored) ? only / "plot.svg"
                                                : fs::path(only).replace_extension(".plot.svg");
    }
    BF_CHECK(out.extension() == ".svg", "--out", "got ", out.string(), ", want a name that ends in .svg");
    BF_CHECK(out.parent_path().empty() || fs::is_directory(out.parent_path(), ignored) || a.out.empty(), "--out",
             out.string(), ": no folder ", out.parent_path().string(), "; hint: mkdir -p ", out.parent_path().string());
    std::vector<Input> inputs;
    for (const std::string& given : a.inputs) {
        inputs.push_back(read_input(given));
        BF_CHECK(inputs.back().kind == inputs[0].kind, "plot", a.inputs[0], " and ", given,
                 " are of two kinds (metrics, curves, scores); want one kind in a picture");
    }
    tell_apart(inputs, a.inputs);
    const Kind kind = inputs[0].kind;
    BF_CHECK(kind != Kind::scores || a.keys.empty(), "--keys", "scores have no keys; got ", a.keys[0]);
    BF_CHECK(kind == Kind::metrics || a.smooth < 0, "--smooth", "goes with metrics alone");
    BF_CHECK(kind == Kind::scores || !a.distances, "--distances", "goes with scores alone");
    BF_CHECK(kind == Kind::metrics || !a.drift, "--drift", "goes with metrics alone");
    BF_CHECK(!a.drift || (a.keys.empty() && a.smooth < 0), "--drift",
             "draws charts of its own; leave out --keys and "
             "--smooth");
    BF_CHECK(a.drift || a.steps.empty(), "--steps", "goes with --drift alone");
    const std::vector<Chart> charts = a.drift                 ? charts_of_drift(inputs, a)
                                      : kind == Kind::metrics ? charts_of_metrics(inputs, a)
                                      : kind == Kind::curves  ? charts_of_curves(inputs, a)
                                                              : charts_of_scores(inputs, a);
    const std::string svg = draw_file(charts);
    BF_CHECK_DATA(!svg.empty(), a.inputs[0],
                  "has no point to draw; hint: --log-x and --log-y leave out what is not above 0");
    write_file(out, svg);
    std::string names;
    for (const Chart& c : charts) names += (names.empty() ? "" : ", ") + c.title;
    std::printf("%s: %s\n", out.string().c_str(), names.c_str());
    return 0;
}

}  // namespace bf::program
