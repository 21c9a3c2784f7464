#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace bf::program {

/// What a verification leaves of each pair.
struct PairScore {
    double score = 0;  ///< cosine: higher is more alike
    char same = 0;
    int fold = 1;       ///< from 1
    char accepted = 0;  ///< at the threshold of its fold
    std::string first, second;
};
/// scores.csv: score,same,fold,accepted,first,second.
void write_pair_scores(const std::filesystem::path& path, const std::vector<PairScore>& scores);

/// What a retrieval leaves of its queries.
struct QueryResults {
    std::vector<std::string> measures;  ///< "recall@1", .., "r_precision", "map_at_r"
    std::vector<std::int64_t> label;
    std::vector<std::vector<double>> values;  ///< a row a query; not a number where it is not defined
    std::vector<std::string> query;
};
/// queries.csv: label, the measures, query.
void write_query_results(const std::filesystem::path& path, const QueryResults& results);

/// One of the two files, by its header.
struct ScoreFile {
    bool retrieval = false;
    std::vector<PairScore> pairs;
    QueryResults queries;
};
/// Reads a score file, or the one in a folder of a report. A data Error names the line that is not as it should be.
ScoreFile read_score_file(const std::filesystem::path& path);

}  // namespace bf::program
