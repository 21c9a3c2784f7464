#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace bf::program {

/// One run in a report. Runs of one group share a colour.
struct ReportRun {
    std::string name, group;
    std::filesystem::path folder;  ///< with metrics.jsonl and config.toml
};

/// A line of a chart.
struct Series {
    std::string name;
    int colour = 0;
    std::vector<std::pair<double, double>> points;
    bool faint = false;
};

/// How a chart is drawn.
struct Chart {
    std::string title, x_label, y_label;
    bool log_x = false;
    std::vector<Series> series;
};

/// An SVG of the chart with axes, ticks, grid and legend; colours follow the page's light or dark scheme.
std::string draw(const Chart& chart);

/// Writes one self-contained HTML page over the runs: results, curves, queue telemetry, configuration, machine.
/// `summary` is HTML that stands first (a table of a comparison).
void write_report(const std::filesystem::path& path, const std::string& title, const std::vector<ReportRun>& runs,
                  const std::string& summary = "");

}  // namespace bf::program
