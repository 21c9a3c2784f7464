#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "chart.hpp"

namespace bf::program {

/// One number of a protocol.
struct Figure {
    std::string name;  ///< "TAR@FAR=1e-4", "Recall@1", ...
    double value = 0;
    double low = 0, high = 0;  ///< confidence interval; low == high: none was taken
    int digits = 5;            ///< printed after the point
};

/// A table that does not fit single numbers (one row a fold, a FAR, a gallery).
struct FigureTable {
    std::string name;  ///< also NAME.csv
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;
};

/// A number in a table.
std::string number(double value, const char* format = "%.5f");
inline std::string digits(double value) { return number(value, "%.6g"); }

/// What every protocol of `bf eval` gives, printed and written in one way.
struct ProtocolReport {
    std::string protocol;            ///< "IJB-C 1:1", "LFW View 2, 10 folds", ...
    std::vector<std::string> rules;  ///< how ties, interpolation, missing images, ... are treated: a sentence each
    std::vector<std::pair<std::string, std::string>> facts;  ///< what was compared: ("pairs", "6000"), ("model", ..)
    std::vector<Figure> figures;
    std::vector<FigureTable> tables;
    std::vector<std::pair<std::string, Chart>> curves;  ///< NAME, chart: NAME.svg and the points in NAME.csv

    /// For people: protocol, rules, facts, figures with intervals, tables.
    std::string text() const;
    /// The same as one JSON object on a line (without the curves' points).
    std::string json() const;
    /// Writes report.json, figures.csv, a CSV for each table, an SVG and a CSV for each curve; makes the folder.
    void write(const std::filesystem::path& folder) const;
};

/// Finds out before the work whether `folder` can be made and written; a usage Error says why not.
void check_output_folder(const std::filesystem::path& folder);

}  // namespace bf::program
