#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "bf/base/version.hpp"
#include "bf/train/metrics.hpp"
#include "commands.hpp"
#include "drift_charts.hpp"

namespace bf::program {
namespace {

/// Mean over a window around each point, narrower at the ends: unlike a running mean it does not lag.
std::vector<std::pair<double, double>> smooth(const std::vector<std::pair<double, double>>& points) {
    const std::size_t n = points.size(), half = n / 24;
    std::vector<std::pair<double, double>> out;
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t reach = std::min({half, i, n - 1 - i});
        double sum = 0;
        for (std::size_t k = i - reach; k <= i + reach; ++k) sum += points[k].second;
        out.emplace_back(points[i].first, sum / static_cast<double>(2 * reach + 1));
    }
    return out;
}

struct Loaded {
    ReportRun run;
    std::vector<Json> records;
    int colour;
};

std::vector<std::pair<double, double>> collect(const Loaded& l, const std::string& kind, const std::string& key,
                                               const std::string& set = "") {
    std::vector<std::pair<double, double>> points;
    for (const Json& r : l.records) {
        const Json* v = r.find(key);
        if (r.string_or("kind", "") != kind || !v || !v->is(Json::Kind::number) ||
            (!set.empty() && r.string_or("name", "") != set))
            continue;
        points.emplace_back(r.number_or("step", 0), v->number);
    }
    return points;
}

constexpr const char* style = R"(
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 18px 60px}h1{font-size:1.7rem;margin:0 0 4px}h2{font-size:1.15rem;margin:34px 0 10px}p{max-width:46em}
.soft{color:var(--soft)}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px;min-width:0}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}th,td{padding:6px 12px 6px 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:.86rem}pre{overflow-x:auto;font-size:.84rem;line-height:1.45}svg{display:block;width:100%;height:auto}
@media(max-width:640px){.scroll td:first-child{white-space:normal;min-width:7.5em}}
summary{cursor:pointer;font-weight:600}.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em}
)";

}  // namespace

std::string report_page(const std::string& title, const std::string& body) {
    return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
           "content=\"width=device-width,initial-scale=1\"><title>" +
           escape(title) + "</title><style>" + page_colours() + chart_style() + style +
           "</style></head><body><main><h1>" + escape(title) + "</h1><p class=\"soft\">" + escape(build_facts()) +
           "</p>" + body + "</main></body></html>\n";
}

void write_report(const std::filesystem::path& path, const std::string& title, const std::vector<ReportRun>& runs,
                  const std::string& summary) {
    std::vector<Loaded> loaded;
    std::map<std::string, int> colours;
    std::string warnings;
    for (const ReportRun& run : runs) {
        const std::string group = run.group.empty() ? run.name : run.group;
        const int colour = colours.try_emplace(group, static_cast<int>(colours.size())).first->second;
        std::string warning;
        loaded.push_back({{run.name, group, run.folder}, read_metrics(run.folder / "metrics.jsonl", &warning), colour});
        if (!warning.empty())
            warnings +=
                "<p>Warning: " + escape(run.name) + ": records end at a damaged line: " + escape(warning) + "</p>";
    }
    std::string charts;
    const auto chart = [&](const std::string& name, const std::string& y,
                           const std::function<void(const Loaded&, Chart&)>& add, const std::string& x = "step",
                           bool log_x = false) {
        Chart c{name, x, y, log_x, {}};
        for (const Loaded& l : loaded) add(l, c);
        const std::string svg = draw(c);
        if (!svg.empty()) charts += "<div class=\"card\">" + svg + "</div>";
    };
    const auto plain = [](const std::string& kind, const std::string& key, const std::string& set = "") {
        return [=](const Loaded& l, Chart& c) {
            if (auto points = collect(l, kind, key, set); !points.empty())
                c.series.push_back({l.run.group, l.colour, std::move(points)});
        };
    };
    std::set<std::string> sets;
    for (const Loaded& l : loaded)
        for (const Json& r : l.records)
            if (r.string_or("kind", "") == "eval") sets.insert(r.string_or("name", ""));
    for (const std::string& set : sets)
        chart("Verification accuracy: " + set, "accuracy", plain("eval", "accuracy", set));
    for (const std::string& set : sets)  // those that are searched too
        chart("Recall@1: " + set, "Recall@1", plain("eval", "recall_at_1", set));
    for (const std::string& set : sets)
        chart(
            "ROC at the end: " + set, "TAR",
            [&](const Loaded& l, Chart& c) {
                for (auto r = l.records.rbegin(); r != l.records.rend(); ++r) {
                    const Json* roc = r->find("roc");
                    if (!roc || r->string_or("name", "") != set) continue;
                    Series s{l.run.group, l.colour, {}};
                    for (const Json& p : roc->array)
                        if (p.array.size() == 2) s.points.emplace_back(p.array[0].number, p.array[1].number);
                    c.series.push_back(s);
                    return;
                }
            },
            "FAR", true);
    for (const auto& [key, name] : {std::pair{"loss", "Loss of the encoder (batch)"},
                                    std::pair{"loss_cls", "Loss of the classifier (batch and queue)"}})
        chart(name, "loss", [key = key](const Loaded& l, Chart& c) {
            const auto points = collect(l, "step", key);
            if (points.empty()) return;
            c.series.push_back({"", l.colour, points, true});
            c.series.push_back({l.run.group, l.colour, smooth(points)});
        });
    chart("Learning rate", "lr", plain("step", "lr"));
    chart("Speed", "images/s", plain("step", "images_per_s"));
    chart("Share of time waiting for data", "share", plain("step", "data_wait"));
    std::vector<DriftRun> queues;
    for (const Loaded& l : loaded)
        if (!collect(l, "queue", "rows").empty())
            queues.push_back({loaded.size() > 1 ? l.run.name : "", static_cast<int>(queues.size()), &l.records});
    std::vector<Chart> of_queues{chart_of_identities(queues), chart_of_error(queues)};
    if (const std::vector<double> steps = drift_steps(queues); !steps.empty())
        of_queues.push_back(charts_by_age(queues, {steps.back()}).front());
    for (const Chart& c : of_queues)
        if (const std::string svg = draw(c); !svg.empty()) charts += "<div class=\"card\">" + svg + "</div>";
    chart("Queue: mean age of a row", "steps", plain("queue", "mean_age"));
    chart("Queue rows against the same images encoded now", "mean cosine", [](const Loaded& l, Chart& c) {
        if (auto p = collect(l, "queue", "cos_compensated"); !p.empty())
            c.series.push_back({"compensated", 0, std::move(p)});
        if (auto p = collect(l, "queue", "cos_plain"); !p.empty()) c.series.push_back({"as stored", 1, std::move(p)});
    });

    std::string table;
    for (const Loaded& l : loaded)
        for (const std::string& set : sets)
            for (auto r = l.records.rbegin(); r != l.records.rend(); ++r) {
                if (r->string_or("kind", "") != "eval" || r->string_or("name", "") != set) continue;
                const auto cell = [&](const char* key, double factor, int digits) {
                    return "<td>" + fixed(factor * r->number_or(key, 0), digits) + "</td>";
                };
                table += "<tr><td><span class=\"key\" style=\"background:var(--series" + std::to_string(l.colour % 6) +
                         ")\"></span>" + escape(l.run.name) + "</td><td>" + escape(set) + "</td>" + cell("step", 1, 0) +
                         cell("accuracy", 100, 2) + cell("se", 100, 2) + cell("auc", 1, 4) + cell("eer", 100, 2) +
                         cell("tar_far_1e-2", 100, 2) + cell("tar_far_1e-3", 100, 2) + "</tr>";
                break;
            }
    std::string classifiers;
    for (const Loaded& l : loaded)
        for (auto r = l.records.rbegin(); r != l.records.rend(); ++r) {
            if (r->string_or("kind", "") != "classifier") continue;
            const auto cell = [&](const char* key, int digits, double factor = 1) {
                return "<td>" + fixed(factor * r->number_or(key, 0), digits) + "</td>";
            };
            classifiers += "<tr><td>" + escape(l.run.name) + "</td>" + cell("images", 0) + cell("loss", 4) +
                           cell("least_loss", 4) + cell("excess_loss", 4) + cell("loss_no_margin", 4) +
                           cell("accuracy", 2, 100) + cell("turning_norm", 4) + "</tr>";
            break;
        }
    std::ostringstream html;
    html << warnings << summary;
    if (!table.empty())
        html << "<h2>Verification at the last evaluation</h2><div "
                "class=\"scroll\"><table><thead><tr><th>run</th><th>set</th><th>step</th><th>accuracy "
                "%</th><th>SE</th><th>AUC</th><th>EER %</th>"
             << "<th>TAR % @ FAR 1e-2</th><th>TAR % @ FAR 1e-3</th></tr></thead><tbody>" << table
             << "</tbody></table></div>";
    if (!classifiers.empty())
        html
            << "<h2>The classifier on all training images</h2><p class=\"soft\">Encoded at the end without "
               "augmentation, by running statistics. Least loss: the best that a hundred steps on the classifier alone "
               "found for these embeddings. Gradient: by the directions of its rows.</p><div "
               "class=\"scroll\"><table><thead><tr><th>run</th><th>images</th><th>loss</th><th>least "
               "loss</th><th>excess</th><th>loss without margin</th><th>accuracy %</th><th>gradient</th></tr></thead>"
            << "<tbody>" << classifiers << "</tbody></table></div>";
    html << "<h2>Curves</h2><div class=\"grid\">" << charts << "</div><h2>Configuration</h2>";
    for (const Loaded& l : loaded) {
        std::ifstream in(l.run.folder / "config.toml");
        std::stringstream text;
        text << in.rdbuf();
        html << "<details" << (loaded.size() == 1 ? " open" : "") << "><summary>" << escape(l.run.name)
             << "</summary><pre>" << escape(text.str()) << "</pre></details>";
    }
    write_file(path, report_page(title, html.str()));
}

}  // namespace bf::program
