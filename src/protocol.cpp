#include "protocol.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bf/base/error.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "csv.hpp"

namespace bf::program {
namespace {

std::string csv_line(const std::vector<std::string>& fields) {
    std::string line;
    for (const std::string& f : fields) line += (line.empty() ? "" : ",") + csv_field(f);
    return line + "\n";
}
}  // namespace

std::string ProtocolReport::text() const {
    std::string out = "protocol: " + protocol + "\n";
    for (const std::string& rule : rules) out += "  - " + rule + "\n";
    for (const auto& [name, value] : facts) out += name + ": " + value + "\n";
    std::size_t width = 0;
    for (const Figure& f : figures) width = std::max(width, f.name.size());
    for (const Figure& f : figures) {
        out += f.name + std::string(width - f.name.size() + 2, ' ') + fixed(f.value, f.digits);
        if (f.low < f.high) out += "  [" + fixed(f.low, f.digits) + ", " + fixed(f.high, f.digits) + "]";
        out += "\n";
    }
    for (const FigureTable& t : tables) {
        std::vector<std::size_t> widths;
        for (const std::string& c : t.columns) widths.push_back(c.size());
        for (const auto& row : t.rows)
            for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
        const auto line = [&](const std::vector<std::string>& row) {
            out += " ";
            for (std::size_t i = 0; i < row.size(); ++i)
                out += " " + std::string(widths[i] - row[i].size(), ' ') + row[i];
            out += "\n";
        };
        out += t.name + ":\n";
        line(t.columns);
        for (const auto& row : t.rows) line(row);
    }
    return out;
}

std::string ProtocolReport::json() const {
    std::string out = "{\"kind\":\"protocol\",\"protocol\":" + json_quote(protocol) + ",\"rules\":" + json_list(rules) +
                      ",\"facts\":{";
    for (std::size_t i = 0; i < facts.size(); ++i)
        out += (i ? "," : "") + json_quote(facts[i].first) + ":" + json_quote(facts[i].second);
    out += "},\"figures\":{";
    for (std::size_t i = 0; i < figures.size(); ++i) {
        const Figure& f = figures[i];
        out += (i ? "," : "") + json_quote(f.name) + ":{\"value\":" + json_number(f.value);
        if (f.low < f.high) out += ",\"low\":" + json_number(f.low) + ",\"high\":" + json_number(f.high);
        out += "}";
    }
    out += "},\"tables\":{";
    for (std::size_t i = 0; i < tables.size(); ++i) {
        out += (i ? "," : "") + json_quote(tables[i].name) + ":{\"columns\":" + json_list(tables[i].columns) +
               ",\"rows\":[";
        for (std::size_t r = 0; r < tables[i].rows.size(); ++r) out += (r ? "," : "") + json_list(tables[i].rows[r]);
        out += "]}";
    }
    return out + "}}\n";
}

void ProtocolReport::write(const std::filesystem::path& folder) const {
    check_output_folder(folder);
    write_file(folder / "report.json", json());
    std::string lines = "figure,value,low,high\n";
    for (const Figure& f : figures)
        lines += csv_line({f.name, json_number(f.value), f.low < f.high ? json_number(f.low) : "",
                           f.low < f.high ? json_number(f.high) : ""});
    write_file(folder / "figures.csv", lines);
    for (const FigureTable& t : tables) {
        lines = csv_line(t.columns);
        for (const auto& row : t.rows) lines += csv_line(row);
        write_file(folder / (t.name + ".csv"), lines);
    }
    for (const auto& [name, chart] : curves) {
        write_file(folder / (name + ".svg"), draw_file(chart));
        lines = csv_line({"series", chart.x_label, chart.y_label});
        for (const Series& s : chart.series)
            for (const auto& [x, y] : s.points) lines += csv_line({s.name, json_number(x), json_number(y)});
        write_file(folder / (name + ".csv"), lines);
    }
}

std::string number(double value, const char* format) {
    char text[32];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

void check_output_folder(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    BF_CHECK(!error, "--out", folder.string(), " cannot be made: ", error.message());
    BF_CHECK(std::filesystem::is_directory(folder, error), "--out", folder.string(), " is not a folder");
    BF_CHECK(::access(folder.c_str(), W_OK | X_OK) == 0, "--out", folder.string(), " cannot be written");
}

}  // namespace bf::program
