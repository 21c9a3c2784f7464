#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
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
    Record& put(const std::string& key, const std::vector<double>& values) {
        std::string list;
        for (const double v : values) list += (list.empty() ? "" : ",") + json_number(v);
        return raw(key, "[" + list + "]");
    }
    std::string line() const { return text_ + "}\n"; }

  private:
    Record& raw(const std::string& key, const std::string& value) {
        text_ += "," + json_quote(key) + ":" + value;
        return *this;
    }
    std::string text_;
};

/// The lines of a metrics.jsonl; a last line that was cut is left out. Reading stops at a damaged line, which
/// `warning` then names.
inline std::vector<Json> read_metrics(const std::filesystem::path& path, std::string* warning = nullptr) {
    std::vector<Json> records;
    std::ifstream in(path, std::ios::binary);
    std::string line;
    try {
        for (int number = 1; std::getline(in, line); ++number)
            if (!in.eof()) records.push_back(parse_json(line, path.string() + ":" + std::to_string(number)));
    } catch (const Error& e) {
        if (warning) *warning = e.what();
    }
    return records;
}

/// Appends records to metrics.jsonl, each in one write.
class Metrics {
  public:
    /// Continues a file after its first `keep` bytes, as bytes() gave them; what follows is cut off, since the steps
    /// that wrote it are done again.
    Metrics(const std::filesystem::path& path, std::uint64_t keep) : path_(path) {
        descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail(ErrorCode::runtime, path.string(), "cannot be opened: ", std::strerror(errno));
        // a shorter file (someone edited it) is never filled up with zeros
        if (::ftruncate(descriptor_, static_cast<off_t>(std::min(keep, bytes()))) != 0) {
            const int error = errno;
            ::close(descriptor_);
            fail(ErrorCode::runtime, path.string(), "cannot be cut: ", std::strerror(error));
        }
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

    /// Length of the file, all of it on disk.
    std::uint64_t bytes() const {
        ::fdatasync(descriptor_);
        const off_t end = ::lseek(descriptor_, 0, SEEK_END);
        return end < 0 ? 0 : static_cast<std::uint64_t>(end);
    }

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

}  // namespace bf
