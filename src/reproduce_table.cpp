#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <functional>
#include <set>

#include "bf/eval/student.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "chart.hpp"
#include "config_toml.hpp"
#include "csv.hpp"
#include "report.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

constexpr const char* reported = "reported";  ///< a number of bf eval, whose set names it whole
std::string metric_name(const std::string& metric) { return metric_facts(metric).name; }
double unit_of(const std::string& metric) { return metric_facts(metric).unit; }
int digits_of(const std::string& metric) { return metric_facts(metric).digits; }

/// A measured number of each run.
struct Column {
    std::string name, metric, set;  ///< set empty: mean over the sets
};

/// The finished runs of a row, in the order of the seeds.
struct RowResults {
    const ExperimentRow* row = nullptr;
    std::size_t wanted = 0, diverged = 0;
    std::vector<RunResult> runs;
    const PlannedRun* first = nullptr;  ///< its configuration

    double seconds() const {
        double sum = 0;
        for (const RunResult& r : runs) sum += r.seconds;
        return sum / static_cast<double>(std::max<std::size_t>(1, runs.size()));
    }
    std::string commits() const {
        std::set<std::string> all;
        for (const RunResult& r : runs) all.insert(r.commit);
        std::string text;
        for (const std::string& c : all) text += (text.empty() ? "" : ", ") + c;
        return text;
    }
};

double value_of(const RunResult& r, const Column& c, bool best) {
    return unit_of(c.metric) * r.at(best ? r.best_step(c.metric, c.set) : r.last_step(), c.metric, c.set);
}

MeanInterval mean_of(const RowResults& row, const Column& c, bool best) {
    std::vector<double> values;
    for (const RunResult& r : row.runs)
        if (const double v = value_of(r, c, best); std::isfinite(v)) values.push_back(v);
    return student_interval(values);
}

/// Row minus baseline, over the seeds that both have.
MeanInterval difference_of(const RowResults& row, const RowResults& base, const Column& c, bool best) {
    std::vector<double> values;
    for (const RunResult& r : row.runs)
        for (const RunResult& b : base.runs)
            if (r.seed == b.seed)
                if (const double v = value_of(r, c, best) - value_of(b, c, best); std::isfinite(v)) values.push_back(v);
    return student_interval(values);
}

std::string signed_text(double v, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%+.*f", digits, std::abs(v) < 0.5 * std::pow(10, -digits) ? 0.0 : v);
    return text;
}
std::string text_of(const MeanInterval& m, int digits) {
    if (m.n == 0) return "-";
    return fixed(m.mean, digits) + (m.n > 1 ? " ± " + fixed(m.half, digits) : "");
}
std::string verdict_of(const MeanInterval& d, const std::string& metric) {
    if (d.n == 0) return "";
    if (d.n < 2) return "one seed decides nothing";
    if (d.holds(0)) return "within the noise";
    const Sense sense = metric_facts(metric).sense;
    if (sense == Sense::neither) return d.mean > 0 ? "more" : "less";
    return (d.mean > 0) == (sense == Sense::more_is_better) ? "better" : "worse";
}
std::string difference_text(const MeanInterval& d, const std::string& metric, int digits) {
    if (d.n == 0) return "-";
    std::string text = signed_text(d.mean, digits);
    if (d.n > 1) text += " [" + signed_text(d.low(), digits) + ", " + signed_text(d.high(), digits) + "]";
    return text + ", " + verdict_of(d, metric);
}

using Cells = std::vector<std::vector<std::string>>;  ///< the first row is the header

std::string markdown(const Cells& cells) {
    std::string out;
    for (std::size_t i = 0; i < cells.size(); ++i) {
        out += "|";
        for (const std::string& c : cells[i]) out += " " + c + " |";
        out += "\n";
        if (i > 0) continue;
        out += "|";
        for (std::size_t k = 0; k < cells[0].size(); ++k) out += "---|";
        out += "\n";
    }
    return out + "\n";
}
std::string html(const Cells& cells) {
    std::string out = "<div class=\"scroll\"><table>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
        out += i == 0 ? "<thead><tr>" : "<tr>";
        for (const std::string& c : cells[i])
            out += (i == 0 ? "<th>" : "<td>") + escape(c) + (i == 0 ? "</th>" : "</td>");
        out += i == 0 ? "</tr></thead><tbody>" : "</tr>";
    }
    return out + "</tbody></table></div>";
}

/// The table of one experiment as a whole, before it is text.
class Table {
  public:
    Table(const Experiment& x, const ReproduceArguments& a, const std::vector<PlannedRun>& asked, const Ledger& ledger)
        : x_(x), a_(a), full_(a.scale == "full") {
        // all rows stand in the table, though --only trains some
        ReproduceArguments whole = a;
        whole.rows.clear();
        std::vector<std::string> missing;
        runs_ = a.rows.empty() ? asked : plan_runs(x, whole, missing);
        for (const ExperimentRow& row : full_ ? x.full : x.small) {
            RowResults r;
            r.row = &row;
            for (const PlannedRun& run : runs_) {
                if (run.row->name != row.name) continue;
                if (!r.first) r.first = &run;
                ++r.wanted;
                const RunResult* result = ledger.find(run);
                if (!result)
                    ++missing_;
                else if (result->diverged)
                    ++r.diverged;
                else
                    r.runs.push_back(with_other_figures(*result, run));
            }
            rows_.push_back(std::move(r));
        }
        if (full_) {
            std::vector<std::string> sets;
            for (const PlannedRun& run : runs_)
                for (const ValConfig& v : run.config.val)
                    if (std::find(sets.begin(), sets.end(), v.name) == sets.end()) sets.push_back(v.name);
            for (const std::string& set : sets)
                columns_.push_back({set + " " + metric_name(x.metrics[0]), x.metrics[0], set});
            for (const ExperimentRow& row : x.full)
                for (const PaperNumber& p : row.paper)
                    if (!other_command(a, runs_.front(), p.what).empty() && !has_column(p.what))
                        columns_.push_back({p.what, reported, p.what});
        } else {
            for (const std::string& m : x.metrics) columns_.push_back({metric_name(m), m, ""});
        }
    }

    std::string markdown_text() const {
        std::string out = "# " + x_.title + "\n\n" + x_.question + "\n\n" + progress() + "\n\n";
        for (const Column& c : columns_) out += "## " + c.name + "\n\n" + markdown(results(c));
        if (const Cells c = comparisons(); c.size() > 1) out += "## Compared with each other\n\n" + markdown(c);
        for (const std::string& n : notes()) out += "- " + n + "\n";
        if (const Cells c = context(); c.size() > 1) out += "\n## " + context_title() + "\n\n" + markdown(c);
        if (!x_.supports.empty()) out += "\nWhat this supports: " + x_.supports + "\n";
        if (!x_.does_not_support.empty()) out += "\nWhat this does not support: " + x_.does_not_support + "\n";
        out += "\n## Commands\n\n" + markdown(commands());
        if (const auto more = evaluations_missing(); !more.empty()) {
            out += "Evaluations that are missing (the table takes their numbers in when it is written again):\n\n";
            for (const std::string& command : more) out += "    " + command + "\n";
        }
        return out;
    }

    std::string html_page() const {
        const auto paragraph = [](const std::string& text) { return "<p>" + escape(text) + "</p>"; };
        std::string body = paragraph(x_.question) + paragraph(progress());
        for (const Column& c : columns_) body += "<h2>" + escape(c.name) + "</h2>" + html(results(c));
        if (const Cells c = comparisons(); c.size() > 1) body += "<h2>Compared with each other</h2>" + html(c);
        body += "<ul>";
        for (const std::string& n : notes()) body += "<li>" + escape(n) + "</li>";
        body += "</ul>";
        std::string drawn;
        for (const Chart& c : charts())
            if (const std::string svg = draw(c); !svg.empty()) drawn += "<div class=\"card\">" + svg + "</div>";
        if (!drawn.empty())
            body += "<h2>Curves</h2><div class=\"grid\">" + drawn +
                    "</div><p class=\"soft\">Bars are 95 % confidence intervals of the mean over seeds.</p>";
        if (const Cells c = context(); c.size() > 1) body += "<h2>" + escape(context_title()) + "</h2>" + html(c);
        if (!x_.supports.empty()) body += "<h2>What this supports</h2>" + paragraph(x_.supports);
        if (!x_.does_not_support.empty())
            body += "<h2>What this does not support</h2>" + paragraph(x_.does_not_support);
        return report_page(x_.title, body + "<h2>Commands</h2>" + html(commands()));
    }

    std::string csv() const {
        std::string out =
            "row,metric,seeds,last_mean,last_half,best_mean,best_half,baseline,difference_last,difference_last_low,"
            "difference_last_high,verdict_last,difference_best,difference_best_low,difference_best_high,verdict_best,"
            "paper,paper_source,seconds,commit,command\n";
        const auto put = [&out](const std::string& text) { out += csv_field(text) + ","; };
        const auto numbers = [&put](std::initializer_list<double> values) {
            for (const double v : values) put(std::isfinite(v) ? json_number(v) : "");
        };
        for (const RowResults& r : rows_)
            for (const Column& c : columns_) {
                const MeanInterval last = mean_of(r, c, false), best = mean_of(r, c, true);
                put(r.row->name), put(c.name), put(std::to_string(last.n));
                numbers({last.mean, last.half, best.mean, best.half});
                put(r.row->baseline);
                for (const bool at_best : {false, true}) {
                    const RowResults* base = baseline(r);
                    const MeanInterval d = base ? difference_of(r, *base, c, at_best) : MeanInterval{};
                    numbers({d.mean, d.low(), d.high()});
                    put(verdict_of(d, c.metric));
                }
                const PaperNumber* paper = full_ ? paper_of(*r.row, c.name) : nullptr;
                put(paper ? json_number(paper->value) : ""), put(paper ? paper->source : "");
                put(r.runs.empty() ? "" : fixed(r.seconds(), 1)), put(r.commits());
                out += csv_field(command_of(a_, {r.row->name})) + "\n";
            }
        return out;
    }

    /// The page's charts as CSV (series,x,y) for bf plot, by the names of their files.
    std::vector<std::pair<std::string, std::string>> curves() const {
        std::vector<std::pair<std::string, std::string>> files;
        for (const Chart& c : charts()) {
            std::string name = "curve-", text = "series," + csv_field(c.x_label) + "," + csv_field(c.y_label) + "\n";
            for (const char letter : c.title) {
                if (std::isalnum(static_cast<unsigned char>(letter)))
                    name += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
                else if (name.back() != '-')
                    name += '-';
            }
            while (name.back() == '-') name.pop_back();
            std::size_t points = 0;
            for (const Series& s : c.series)
                for (const auto& [x, y] : s.points) {
                    text += csv_field(s.name) + "," + json_number(x) + "," + json_number(y) + "\n";
                    ++points;
                }
            if (points > 0) files.emplace_back(name + ".csv", std::move(text));
        }
        return files;
    }

  private:
    bool has_column(const std::string& name) const {
        return std::any_of(columns_.begin(), columns_.end(), [&](const Column& c) { return c.name == name; });
    }
    /// At full scale: what bf eval wrote into the run's folder beside.
    RunResult with_other_figures(RunResult r, const PlannedRun& run) const {
        std::vector<std::string> whats;
        for (const ExperimentRow& row : full_ ? x_.full : std::vector<ExperimentRow>{})
            for (const PaperNumber& p : row.paper)
                if (std::find(whats.begin(), whats.end(), p.what) == whats.end()) whats.push_back(p.what);
        const std::uint64_t last = r.evals.empty() ? r.steps : r.last_step();
        for (const std::string& what : whats)
            if (const auto value = other_figure(run, what)) r.evals.push_back({last, what, {{reported, *value}}});
        return r;
    }
    /// Evaluations that bf eval has yet to make, a command each.
    std::vector<std::string> evaluations_missing() const {
        std::vector<std::string> all;
        for (const Column& c : columns_) {
            if (c.metric != reported) continue;
            for (const PlannedRun& run : runs_) {
                if (other_figure(run, c.set)) continue;
                std::string command = other_command(a_, run, c.set);
                if (std::find(all.begin(), all.end(), command) == all.end()) all.push_back(std::move(command));
            }
        }
        return all;
    }
    const RowResults* baseline(const RowResults& r) const {
        return r.row->baseline.empty() ? nullptr : row_of(r.row->baseline);
    }
    static const PaperNumber* paper_of(const ExperimentRow& row, const std::string& what) {
        for (const PaperNumber& p : row.paper)
            if (p.what == what && p.confirmed) return &p;
        return nullptr;
    }
    std::string progress() const {
        std::string out = concat(runs_.size() - missing_, " of ", runs_.size(), " runs are finished");
        if (missing_) out += concat("; runs missing: ", missing_, " (", command_of(a_), " trains them)");
        return out + ".";
    }

    /// One metric of all rows.
    Cells results(const Column& c) const {
        const bool compared = std::any_of(rows_.begin(), rows_.end(), [this](const auto& r) { return baseline(r); });
        Cells cells{{"row", "seeds"}};
        const auto head = [&cells](const std::string& name) { cells[0].push_back(name); };
        if (full_) head("paper");
        const bool at_end = metric_facts(c.metric).at_end;
        head(at_end ? "at the end" : "last epoch");
        if (full_) head("ours - paper");
        if (compared) head("difference to the baseline");
        if (!at_end) head("best epoch");
        if (compared && !at_end) head("difference to the baseline");
        const int digits = digits_of(c.metric);
        for (const RowResults& r : rows_) {
            std::string seeds = concat(r.runs.size(), " of ", r.wanted);
            if (r.diverged) seeds += concat(" (", r.diverged, " diverged)");
            std::vector<std::string> line{r.row->label, seeds};
            const RowResults* base = baseline(r);
            const MeanInterval last = mean_of(r, c, false);
            const PaperNumber* paper = full_ ? paper_of(*r.row, c.name) : nullptr;
            const auto difference = [&](bool best) {
                if (!compared) return;
                line.push_back(base ? difference_text(difference_of(r, *base, c, best), c.metric, digits) : "baseline");
            };
            if (full_) line.push_back(paper ? fixed(paper->value, digits) : "-");
            line.push_back(text_of(last, digits));
            if (full_) line.push_back(paper && last.n ? signed_text(last.mean - paper->value, digits) : "-");
            difference(false);
            if (!at_end) {
                line.push_back(text_of(mean_of(r, c, true), digits));
                difference(true);
            }
            cells.push_back(std::move(line));
        }
        return cells;
    }

    const RowResults* row_of(const std::string& name) const {
        for (const RowResults& r : rows_)
            if (r.row->name == name) return &r;
        return nullptr;
    }
    /// Pairs of rows that the experiment names.
    Cells comparisons() const {
        Cells cells{{"difference"}};
        if (full_) return cells;
        for (const Column& c : columns_) cells[0].push_back(c.name + ", last epoch");
        for (const auto& [name, with] : x_.pairs) {
            const RowResults &r = *row_of(name), &base = *row_of(with);
            std::vector<std::string> line{r.row->label + " - " + base.row->label};
            for (const Column& c : columns_)
                line.push_back(difference_text(difference_of(r, base, c, false), c.metric, digits_of(c.metric)));
            cells.push_back(std::move(line));
        }
        return cells;
    }

    std::vector<std::string> notes() const {
        std::vector<std::string> n{
            "All numbers but those marked as the paper's are ours, measured. ± is half of the 95 % confidence interval "
            "of the mean over seeds (Student's t); without ± there is one seed.",
            "A difference pairs the runs of one seed; in brackets its 95 % confidence interval. It is within the noise "
            "where the interval holds 0. Nothing is corrected for the number of rows: of twenty differences that are "
            "none, one looks like one.",
            "The best epoch is chosen, run by run and metric by metric, on the same pairs that it is measured on, so "
            "that it is too high by "
            "that choice; the last epoch is the fair figure."};
        for (const Column& c : columns_)
            if (const std::string note = metric_facts(c.metric).note; !note.empty())
                n.push_back(c.name + ": " + note + ".");
        for (const RowResults& r : rows_)
            if (r.first && r.first->config.val.size() > 1 && !full_) {
                n.push_back(concat("Metrics are the mean over ", r.first->config.val.size(), " sets."));
                break;
            }
        return n;
    }

    std::string context_title() const { return "For context alone: the paper's numbers, " + x_.context; }
    /// What the paper prints of this experiment, at its own scale.
    Cells context() const {
        std::vector<std::string> whats;
        for (const ExperimentRow& row : x_.full)
            for (const PaperNumber& p : row.paper)
                if (p.confirmed && !(full_ && has_column(p.what)) &&
                    std::find(whats.begin(), whats.end(), p.what) == whats.end())
                    whats.push_back(p.what);
        Cells cells{{"row"}};
        if (whats.empty()) return cells;
        for (const std::string& w : whats) cells[0].push_back("paper: " + w);
        cells[0].push_back("source");
        for (const ExperimentRow& row : x_.full) {
            std::vector<std::string> line{row.label};
            std::set<std::string> sources;
            for (const std::string& w : whats) {
                const PaperNumber* p = paper_of(row, w);
                line.push_back(p ? json_number(p->value) : "-");
                if (p) sources.insert(p->source);
            }
            if (sources.empty()) continue;
            std::string all;
            for (const std::string& s : sources) all += (all.empty() ? "" : "; ") + s;
            line.push_back(all);
            cells.push_back(std::move(line));
        }
        return cells;
    }

    Cells commands() const {
        Cells cells{{"row", "training s a run", "commit", "command"}};
        for (const RowResults& r : rows_)
            cells.push_back({r.row->label, r.runs.empty() ? "-" : fixed(r.seconds(), 1),
                             r.runs.empty() ? "-" : r.commits(), command_of(a_, {r.row->name})});
        return cells;
    }

    /// Mean over seeds of the first metric at each evaluation.
    Chart learning_curves(const Column& c) const {
        Chart chart{"Learning curves, mean over seeds: " + c.name, "step", c.name, false, {}};
        std::vector<std::string> names = x_.curves;
        if (names.empty())
            for (const RowResults& r : rows_)
                if (names.size() < 6) names.push_back(r.row->name);
        int colour = 0;
        for (const std::string& name : names)
            for (const RowResults& r : rows_) {
                if (r.row->name != name) continue;
                std::map<std::uint64_t, std::vector<double>> at;
                for (const RunResult& run : r.runs) {
                    std::set<std::uint64_t> steps;
                    for (const EvalPoint& e : run.evals) steps.insert(e.step);
                    for (const std::uint64_t s : steps) at[s].push_back(unit_of(c.metric) * run.at(s, c.metric, c.set));
                }
                Series s{r.row->label, colour++, {}};
                for (const auto& [step, values] : at) {
                    const MeanInterval m = student_interval(values);
                    if (m.n == static_cast<int>(r.runs.size()) && std::isfinite(m.mean))
                        s.points.emplace_back(static_cast<double>(step), m.mean);
                }
                if (s.points.size() > 1) chart.series.push_back(std::move(s));
            }
        return chart;
    }

    /// A metric over a key, a line for each value of another key; rows where the key is 0 are a level of their own.
    Chart over_key(const ExperimentChart& spec, const Column& c) const {
        Chart chart{
            spec.title.empty() ? c.name + " over " + spec.x : spec.title, spec.x, c.name + ", last epoch", false, {}};
        std::map<std::string, Series> lines;
        const std::string short_name = spec.series.substr(spec.series.rfind('.') + 1);
        double low = HUGE_VAL, high = 0;
        const RowResults* zero = nullptr;
        for (const RowResults& r : rows_) {
            const MeanInterval m = mean_of(r, c, false);
            if (m.n == 0 || !r.first) continue;
            const double x = std::strtod(value_text(r.first->config, spec.x).c_str(), nullptr);
            if (x == 0) {
                zero = &r;
                continue;
            }
            const std::string key = spec.series.empty() ? "" : value_text(r.first->config, spec.series);
            Series& s = lines[key];
            s.name = spec.series.empty() ? c.name : short_name + " = " + key;
            s.points.emplace_back(x, m.mean);
            s.errors.push_back(m.half);
            low = std::min(low, x), high = std::max(high, x);
        }
        int colour = 0;
        for (auto& [key, s] : lines) {
            s.colour = colour++;
            chart.series.push_back(std::move(s));
        }
        if (zero && low <= high) {
            const double mean = mean_of(*zero, c, false).mean;
            chart.series.push_back({short_name.empty() ? "0" : spec.x.substr(spec.x.rfind('.') + 1) + " = 0",
                                    colour,
                                    {{low, mean}, {high, mean}}});
        }
        chart.log_x = low > 0 && high / low >= 16;
        return chart;
    }

    std::vector<Chart> charts() const {
        std::vector<Chart> all;
        for (const ExperimentChart& spec : x_.charts)
            for (const Column& c : columns_) all.push_back(over_key(spec, c));
        for (const Column& c : columns_) all.push_back(learning_curves(c));
        return all;
    }

    const Experiment& x_;
    const ReproduceArguments& a_;
    bool full_;
    std::vector<PlannedRun> runs_;
    std::vector<RowResults> rows_;
    std::vector<Column> columns_;
    std::size_t missing_ = 0;
};

}  // namespace

std::string write_tables(const Experiment& x, const ReproduceArguments& a, const std::vector<PlannedRun>& runs,
                         const Ledger& ledger, const fs::path& folder) {
    const Table table(x, a, runs, ledger);
    const std::string text = table.markdown_text();
    write_file(folder / "table.md", text);
    write_file(folder / "table.csv", table.csv());
    write_file(folder / "index.html", table.html_page());
    for (const auto& [name, curve] : table.curves()) write_file(folder / name, curve);
    return text;
}

}  // namespace bf::program
