#include "score_files.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "bf/io/lines.hpp"
#include "csv.hpp"

namespace bf::program {
namespace {

/// A name as a field of a CSV line; a line's end in it, which the reader of lines would take for one, becomes a blank.
std::string field(const std::string& name) {
    std::string text = csv_field(name);
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return text;
}

}  // namespace

void write_pair_scores(const std::filesystem::path& path, const std::vector<PairScore>& scores) {
    AtomicFile file(path);
    file.write("score,same,fold,accepted,first,second\n");
    for (const PairScore& s : scores)
        file.write(json_number(s.score) + (s.same ? ",1," : ",0,") + std::to_string(s.fold) +
                   (s.accepted ? ",1," : ",0,") + field(s.first) + "," + field(s.second) + "\n");
    file.commit();
}

void write_query_results(const std::filesystem::path& path, const QueryResults& r) {
    AtomicFile file(path);
    std::string line = "label";
    for (const std::string& m : r.measures) line += "," + m;
    file.write(line + ",query\n");
    for (std::size_t q = 0; q < r.query.size(); ++q) {
        line = std::to_string(r.label[q]);
        for (const double v : r.values[q]) line += "," + (std::isfinite(v) ? json_number(v) : "");
        file.write(line + "," + field(r.query[q]) + "\n");
    }
    file.commit();
}

ScoreFile read_score_file(const std::filesystem::path& given) {
    namespace fs = std::filesystem;
    fs::path path = given;
    if (fs::is_directory(given)) {
        path = given / "scores.csv";
        if (!fs::exists(path)) path = given / "queries.csv";
        BF_CHECK_DATA(fs::exists(path), given.string(),
                      "holds neither scores.csv nor queries.csv; hint: a folder that bf eval --out wrote");
    }
    const FileSource source(path);
    LineReader in(source, {.max_bytes = std::uint64_t{4} << 30, .max_line = 16384});
    std::string_view line;
    in.next(line);
    ScoreFile out;
    const std::vector<std::string> header = csv_fields(line);
    out.retrieval = header.size() >= 3 && header.front() == "label" && header.back() == "query";
    BF_CHECK_DATA(out.retrieval || line == "score,same,fold,accepted,first,second", concat(in.name(), ":1"),
                  "not a score file; got ", excerpt(line), "; hint: scores.csv or queries.csv of bf eval --out");
    if (out.retrieval) out.queries.measures.assign(header.begin() + 1, header.end() - 1);
    while (in.next_filled(line)) {
        std::vector<std::string> f = csv_fields(line);
        BF_CHECK_DATA(f.size() == header.size(), in.where(), "fields; got ", f.size(), ", want ", header.size());
        if (out.retrieval) {
            std::int64_t label = 0;
            BF_CHECK_DATA(parse_number(f[0], label), in.where(), "label; got ", excerpt(f[0]));
            std::vector<double> values;
            for (std::size_t i = 1; i + 1 < f.size(); ++i) {
                values.push_back(std::nan(""));
                BF_CHECK_DATA(f[i].empty() || parse_number(f[i], values.back()), in.where(), header[i],
                              ": not a number; got ", excerpt(f[i]));
            }
            out.queries.label.push_back(label);
            out.queries.values.push_back(std::move(values));
            out.queries.query.push_back(std::move(f.back()));
            continue;
        }
        PairScore s;
        std::int64_t fold = 0;
        const auto flag = [](const std::string& text) { return text == "0" || text == "1"; };
        BF_CHECK_DATA(parse_number(f[0], s.score) && flag(f[1]) && parse_number(f[2], fold) && fold >= 1 &&
                          fold <= 1000000 && flag(f[3]),
                      in.where(), "not score,same,fold,accepted,first,second; got ", excerpt(line));
        s.same = f[1] == "1";
        s.fold = static_cast<int>(fold);
        s.accepted = f[3] == "1";
        s.first = std::move(f[4]);
        s.second = std::move(f[5]);
        out.pairs.push_back(std::move(s));
    }
    BF_CHECK_DATA(!out.pairs.empty() || !out.queries.query.empty(), in.name(), "has a header alone");
    return out;
}

}  // namespace bf::program
