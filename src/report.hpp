#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "chart.hpp"

namespace bf::program {

/// One run in a report. Runs of one group share a colour.
struct ReportRun {
    std::string name, group;
    std::filesystem::path folder;  ///< with metrics.jsonl and config.toml
};

/// A whole page of this style, for phones too, in light and dark, that asks for nothing from a network: title, facts of
/// the build, `body`.
std::string report_page(const std::string& title, const std::string& body);

/// Writes one self-contained HTML page over the runs: results, curves, queue telemetry, configuration, machine.
/// `summary` is HTML that stands first (a table of a comparison).
void write_report(const std::filesystem::path& path, const std::string& title, const std::vector<ReportRun>& runs,
                  const std::string& summary = "");

}  // namespace bf::program
