#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace bf::program {

/// A number that the paper prints.
struct PaperNumber {
    std::string what;  ///< "IJB-B TAR@FAR=1e-5", ...; a column of the full scale has the same name
    double value = 0;  ///< in the paper's unit
    std::string source;
    bool confirmed = false;  ///< unconfirmed numbers are never printed
};

/// What is trained and compared: a line of the table.
struct ExperimentRow {
    std::string name;    ///< of folders and of --only
    std::string label;   ///< in the table; not given: the name
    std::string config;  ///< a configuration file; empty: the table [config] of the experiment
    std::string baseline;
    std::vector<std::string> settings;  ///< key=value
    std::vector<PaperNumber> paper;
};

/// A metric over a key of the configuration, a line for each value of another key.
struct ExperimentChart {
    std::string title, x, series;
};

/// An experiment: configs/experiments/NAME.toml.
struct Experiment {
    std::string name, title, question, supports, does_not_support, context;
    std::filesystem::path file;
    std::vector<std::int64_t> seeds, full_seeds;
    std::vector<std::string> metrics;  ///< each has a best epoch of its own
    std::vector<ExperimentRow> small;  ///< [[row]]
    std::vector<ExperimentRow> full;   ///< [[full]]: the paper's scale
    std::vector<ExperimentChart> charts;
    std::int64_t images = 0, identities = 0;  ///< of the full scale's training set, as published; 0: not said
    std::vector<std::pair<std::string, std::string>> pairs;  ///< [[compare]]: rows compared with each other
    std::vector<std::string> curves;                         ///< rows whose learning curves are drawn
};

/// The experiments of a folder by name; a usage Error where there is no such folder.
std::vector<Experiment> load_experiments(const std::filesystem::path& folder);
/// One of them; a usage Error names the nearest known one.
Experiment load_experiment(const std::filesystem::path& folder, const std::string& name);

}  // namespace bf::program
