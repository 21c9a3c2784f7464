#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bf/core/device_memory.hpp"
#include "bf/io/json.hpp"
#include "bf/nn/init.hpp"

// What the benchmarks share: options, medians, timed blocks and the file of results that compare.py reads.

namespace bench {

/// Thrown for --help.
struct Help {
    std::string known;
};

/// Options of a command line: "--name value", each with its default.
class Options {
  public:
    /// Throws Help, or a usage Error for an option that is not known or has no value.
    Options(int argc, char** argv, std::map<std::string, std::string> defaults) : values_(std::move(defaults)) {
        std::string known;
        for (const auto& [name, value] : values_) known += "\n  --" + name + (value.empty() ? "" : "  (" + value + ")");
        for (int i = 1; i < argc; i += 2) {
            const std::string name = argv[i];
            if (name == "--help") throw Help{known};
            if (name.rfind("--", 0) != 0 || !values_.count(name.substr(2)) || i + 1 == argc)
                bf::fail(bf::ErrorCode::usage, name, "is not an option, or has no value; known, with defaults:", known);
            values_[name.substr(2)] = argv[i + 1];
        }
    }
    const std::string& text(const std::string& name) const { return values_.at(name); }
    std::int64_t number(const std::string& name) const { return numbers(name).at(0); }
    double real(const std::string& name) const { return std::stod(text(name)); }
    /// "r50,r100"
    std::vector<std::string> words(const std::string& name) const {
        std::vector<std::string> all;
        std::istringstream in(text(name));
        for (std::string word; std::getline(in, word, ',');) all.push_back(word);
        return all;
    }
    /// "128,256": whole numbers, none below 0.
    std::vector<std::int64_t> numbers(const std::string& name) const {
        std::vector<std::int64_t> all;
        for (const std::string& word : words(name)) {
            BF_CHECK(!word.empty() && word.size() < 16 && word.find_first_not_of("0123456789") == std::string::npos,
                     "--" + name, "got ", text(name), ", want whole numbers with commas between");
            all.push_back(std::stoll(word));
        }
        BF_CHECK(!all.empty(), "--" + name, "wants a number");
        return all;
    }
    bf::Device device() const {
        BF_CHECK(text("device") == "cpu" || text("device") == "cuda", "--device", "got ", text("device"),
                 ", want cpu or cuda");
        return {text("device") == "cuda" ? bf::DeviceType::cuda : bf::DeviceType::cpu, 0};
    }

  private:
    std::map<std::string, std::string> values_;
};

inline double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    const std::size_t half = v.size() / 2;
    return v.size() % 2 ? v[half] : (v[half - 1] + v[half]) / 2;
}

/// Seconds of work(), from an idle device to an idle device.
template <class F>
double seconds(bf::Device device, F&& work) {
    const auto wait = [&] { bf::device_memory(device).synchronize(device.index); };
    wait();
    const auto start = std::chrono::steady_clock::now();
    work();
    wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Random numbers [rows, dim] on the device; a block of them over and over, since the host draws them.
inline bf::Tensor random_rows(bf::Init& init, std::int64_t rows, std::int64_t dim, double std, bf::Device device) {
    const std::int64_t drawn = std::min<std::int64_t>(rows, 16384);
    const bf::Tensor block = init.normal({drawn, dim}, std).to(device),
                     all = bf::Tensor::empty({rows, dim}, block.options());
    for (std::int64_t at = 0; at < rows; at += drawn) {
        const std::int64_t n = std::min(drawn, rows - at);
        all.rows(at, at + n).copy_from(block.rows(0, n));
    }
    return all;
}
inline bf::Tensor labels_of(std::int64_t n, std::int64_t identities, bf::Device device) {
    const bf::Tensor y = bf::Tensor::empty({n}, {.dtype = bf::DType::i64});
    for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i * 7919 % identities;
    return y.to(device);
}

constexpr double mib(double bytes) { return bytes / (1 << 20); }

/// One row or head of a result file: a JSON object.
class Fields {
  public:
    Fields& put(const std::string& key, const std::string& value) { return add(key, bf::json_quote(value)); }
    Fields& put(const std::string& key, const char* value) { return put(key, std::string(value)); }
    Fields& put(const std::string& key, bool value) { return add(key, value ? "true" : "false"); }
    Fields& put(const std::string& key, std::int64_t value) { return add(key, std::to_string(value)); }
    Fields& put(const std::string& key, double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.6g", value);
        return add(key, text);
    }
    const std::string& text() const { return text_; }

  private:
    Fields& add(const std::string& key, const std::string& value) {
        text_ += (text_.empty() ? "" : ", ") + bf::json_quote(key) + ": " + value;
        return *this;
    }
    std::string text_;
};

/// A result file: {head, "rows": [...]}. It is written anew after each row, so that a time limit loses none.
class Results {
  public:
    /// path: empty for no file.
    Results(std::string path, const Fields& head) : path_(std::move(path)), head_(head.text()) {}
    void add(const Fields& row) {
        rows_ += (rows_.empty() ? "\n  {" : ",\n  {") + row.text() + "}";
        if (path_.empty()) return;
        std::ofstream file(path_);
        file << "{" << head_ << ", \"rows\": [" << rows_ << "\n]}\n";
        if (!file.flush()) bf::fail(bf::ErrorCode::runtime, path_, "cannot be written");
    }

  private:
    std::string path_, head_, rows_;
};

/// Runs a benchmark's body and turns its errors into exit codes: 2 for the command line, 1 for the rest.
template <class F>
int guarded(const char* name, F&& body) {
    try {
        body();
        return 0;
    } catch (const Help& help) {
        std::printf("usage: %s [--name value]...; names and defaults:%s\n", name, help.known.c_str());
        return 0;
    } catch (const bf::Error& error) {
        std::fprintf(stderr, "%s: %s\n", name, error.what());
        return error.code() == bf::ErrorCode::usage ? 2 : 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", name, error.what());
        return 1;
    }
}

}  // namespace bench
