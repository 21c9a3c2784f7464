#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"

namespace bf {

/// One JSON object on a line, built key by key.
class Record {
  public:
    explicit Record(const std::string& kind) : text_("{\"kind\":" + json_quote(kind)) {}
    Record& put(const std::string& key, double value) { return raw(key, json_number(value)); }
    Record& put(const std::string& key, const std::string& value) { return raw(key, json_quote(value)); }
    Record& put(const std::string& key, const std::vector<std::pair<double, double>>& points) {
        std::string list = "[";
        for (const auto& [x, y] : points)
            list += (list.size() > 1 ? ",[" : "[") + json_number(x) + "," + json_number(y) + "]";
        return raw(key, list + "]");
    }
    std::string line() const { return text_ + "}\n"; }

  private:
    Record& raw(const std::string& key, const std::string& value) {
        text_ += "," + json_quote(key) + ":" + value;
        return *this;
    }
    std::string text_;
};

/// The lines of a metrics.jsonl; a last line that was cut is left out.
inline std::vector<Json> read_metrics(const std::filesystem::path& path) {
    std::vector<Json> records;
    std::ifstream in(path, std::ios::binary);
    std::string line;
    for (int number = 1; std::getline(in, line); ++number)
        if (!in.eof()) records.push_back(parse_json(line, path.string() + ":" + std::to_string(number)));
    return records;
}

/// Appends records to metrics.jsonl, each in one write.
class Metrics {
  public:
    /// Continues a file: records of later steps than `step` (from a run that was cut) are taken out first.
    Metrics(const std::filesystem::path& path, std::uint64_t step) : path_(path) {
        if (std::filesystem::exists(path)) {
            std::ifstream in(path, std::ios::binary);
            std::string kept, line;
            while (std::getline(in, line) && !in.eof())
                if (parse_json(line, path.string()).number_or("step", 0) <= static_cast<double>(step))
                    kept += line + "\n";
            write_file(path, kept);
        }
        descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail(ErrorCode::runtime, path.string(), "cannot be opened: ", std::strerror(errno));
    }
    ~Metrics() { ::close(descriptor_); }
    Metrics(const Metrics&) = delete;
    Metrics& operator=(const Metrics&) = delete;

    void add(const Record& record) {
        const std::string line = record.line();
        if (::write(descriptor_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
            fail(ErrorCode::runtime, path_.string(), "cannot be written: ", std::strerror(errno),
                 "; hint: is the disk full?");
    }

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace bf
