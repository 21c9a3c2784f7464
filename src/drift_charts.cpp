// Charts of a queue's drift, for bf plot and the report.
#include "drift_charts.hpp"

#include <algorithm>
#include <set>

namespace bf::program {
namespace {

using Points = std::vector<std::pair<double, double>>;

bool is_queue(const Json& r) { return r.string_or("kind", "") == "queue"; }

/// The values of a record's array over the mean age of the rows; a range of ages without rows is left out.
Points by_age(const Json& r, const char* key) {
    Points points;
    const Json *ages = r.find("age_mean"), *values = r.find(key);
    if (!ages || !values) return points;
    for (std::size_t i = 0; i < std::min(ages->array.size(), values->array.size()); ++i)
        if (ages->array[i].is(Json::Kind::number) && values->array[i].is(Json::Kind::number))
            points.emplace_back(ages->array[i].number, values->array[i].number);
    return points;
}
/// The last record of that step: a run that was resumed may have an earlier one.
const Json* record_of(const DriftRun& run, double step) {
    const Json* found = nullptr;
    for (const Json& r : *run.records)
        if (is_queue(r) && r.number_or("step", -1) == step) found = &r;
    return found;
}
Points over_steps(const DriftRun& run, const char* key) {
    Points points;
    for (const Json& r : *run.records)
        if (const Json* v = r.find(key); is_queue(r) && v && v->is(Json::Kind::number))
            points.emplace_back(r.number_or("step", 0), v->number);
    return points;
}
void add(Chart& chart, const DriftRun& run, const char* name, int colour, Points points) {
    if (points.empty()) return;
    chart.series.push_back(
        {run.name.empty() ? name : run.name + " " + name, 2 * run.number + colour, std::move(points)});
}

}  // namespace

std::vector<double> drift_steps(const std::vector<DriftRun>& runs) {
    std::set<double> steps;
    for (const DriftRun& run : runs)
        for (const Json& r : *run.records)
            if (is_queue(r) && !by_age(r, "error_plain").empty()) steps.insert(r.number_or("step", 0));
    return {steps.begin(), steps.end()};
}

std::vector<Chart> charts_by_age(const std::vector<DriftRun>& runs, const std::vector<double>& steps) {
    std::vector<Chart> charts;
    for (const double step : steps) {
        const std::string at = " (step " + fixed(step, 0) + ")";
        Chart error{.title = "Error of queue rows by age" + at,
                    .x_label = "age in steps",
                    .y_label = "|row - e| / |e|, e encoded now"},
            cosine{.title = "Cosine of queue rows by age" + at,
                   .x_label = "age in steps",
                   .y_label = "mean cosine with e, encoded now"};
        for (const DriftRun& run : runs)
            if (const Json* r = record_of(run, step)) {
                add(error, run, "compensated", 0, by_age(*r, "error_compensated"));
                add(error, run, "as stored", 1, by_age(*r, "error_plain"));
                add(cosine, run, "compensated", 0, by_age(*r, "cos_compensated_by_age"));
                add(cosine, run, "as stored", 1, by_age(*r, "cos_plain_by_age"));
            }
        charts.push_back(std::move(error));
        charts.push_back(std::move(cosine));
    }
    return charts;
}

Chart chart_of_error(const std::vector<DriftRun>& runs) {
    Chart chart{
        .title = "Error of queue rows, mean over ages", .x_label = "step", .y_label = "|row - e| / |e|, e encoded now"};
    for (const DriftRun& run : runs) {
        add(chart, run, "compensated", 0, over_steps(run, "mean_error_compensated"));
        add(chart, run, "as stored", 1, over_steps(run, "mean_error_plain"));
    }
    return chart;
}

Chart chart_of_identities(const std::vector<DriftRun>& runs) {
    Chart chart{.title = "Identities that the classifier sees in a step", .x_label = "step", .y_label = "identities"};
    for (const DriftRun& run : runs) {
        add(chart, run, "batch and queue", 0, over_steps(run, "distinct"));
        add(chart, run, "batch alone", 1, over_steps(run, "distinct_batch"));
    }
    return chart;
}

}  // namespace bf::program
