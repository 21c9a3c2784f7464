#include "experiment.hpp"

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <algorithm>
#include <set>

#include "bf/base/error.hpp"
#include "config_toml.hpp"
#include "reproduce.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// Takes values out of a table of an experiment file; what nobody took is unknown.
class Fields {
  public:
    Fields(const toml::table& table, std::string file, std::string what)
        : table_(table), file_(std::move(file)), what_(std::move(what)) {}

    template <class T>
    T take(const std::string& key, T otherwise, const char* want) {
        known_.push_back(key);
        const toml::node* node = table_.get(key);
        if (!node) return otherwise;
        const auto got = node->value_exact<T>();
        if (!got) wrong(*node, key, want);
        return *got;
    }
    std::string text(const std::string& key, const std::string& otherwise = "") {
        return take<std::string>(key, otherwise, "a text in quotes");
    }
    double number(const std::string& key) {
        known_.push_back(key);
        const toml::node* node = table_.get(key);
        if (!node || !node->is_number()) wrong(node ? *node : table_, key, "a number");
        return *node->value<double>();
    }
    template <class T>
    std::vector<T> list(const std::string& key, std::vector<T> otherwise, const char* want) {
        known_.push_back(key);
        const toml::node* node = table_.get(key);
        if (!node) return otherwise;
        if (!node->is_array()) wrong(*node, key, want);
        std::vector<T> all;
        for (const toml::node& item : *node->as_array()) {
            const auto got = item.value_exact<T>();
            if (!got) wrong(item, key, want);
            all.push_back(*got);
        }
        return all;
    }
    /// The tables of a list; `make` gets each with a name for errors.
    template <class Make>
    void tables(const std::string& key, Make&& make) {
        known_.push_back(key);
        const toml::node* node = table_.get(key);
        if (!node) return;
        if (!node->is_array()) wrong(*node, key, "a list of tables");
        for (const toml::node& item : *node->as_array()) {
            if (!item.is_table()) wrong(item, key, "a list of tables");
            Fields one(*item.as_table(), file_, key + ".");
            make(one);
            one.finish();
        }
    }
    void pass_over(const std::string& key) { known_.push_back(key); }
    void finish() const {
        for (const auto& [key, node] : table_) {
            const std::string name(key.str());
            if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
            const std::string near = nearest(name, known_);
            fail(ErrorCode::usage, place(node), "unknown key: ", what_, name,
                 near.empty() ? "" : "; hint: did you mean " + what_ + near + "?");
        }
    }
    [[noreturn]] void wrong(const toml::node& node, const std::string& key, const std::string& want) const {
        fail(ErrorCode::usage, place(node), what_, key, ": want ", want);
    }
    std::string place(const toml::node& node) const { return concat(file_, ":", node.source().begin.line); }
    std::string place() const { return place(table_); }

  private:
    const toml::table& table_;
    std::string file_, what_;
    std::vector<std::string> known_;
};

ExperimentRow read_row(Fields& f, bool full) {
    ExperimentRow row;
    row.name = f.text("name");
    BF_CHECK(!row.name.empty() &&
                 row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789._-") == std::string::npos &&
                 row.name[0] != '.',
             f.place(), "name: got \"", row.name, "\", want letters, digits, _, - and points (it names folders)");
    row.label = f.text("label", row.name);
    row.baseline = f.text("baseline");
    row.config = f.text("config");
    BF_CHECK(!full || !row.config.empty(), f.place(), "config: missing; want the configuration of the full scale");
    row.settings = f.list<std::string>("set", {}, "a list of texts key=value");
    f.tables("paper", [&row](Fields& p) {
        PaperNumber n;
        n.what = p.text("what");
        n.source = p.text("source");
        const std::string status = p.text("status");
        BF_CHECK(status == "confirmed" || status == "unconfirmed", p.place(), "status: got \"", status,
                 "\", want confirmed or unconfirmed");
        n.confirmed = status == "confirmed";
        if (n.confirmed)
            n.value = p.number("value");
        else
            p.pass_over("value");  // never printed
        BF_CHECK(!n.confirmed || !n.source.empty(), p.place(), "source: missing; a confirmed number has one");
        row.paper.push_back(n);
    });
    return row;
}

void check_rows(const std::vector<ExperimentRow>& rows, const std::string& file) {
    std::vector<std::string> names;
    for (const ExperimentRow& r : rows) {
        BF_CHECK(std::find(names.begin(), names.end(), r.name) == names.end(), file, "row ", r.name, " stands twice");
        names.push_back(r.name);
    }
    for (const ExperimentRow& r : rows)
        BF_CHECK(r.baseline.empty() || std::find(names.begin(), names.end(), r.baseline) != names.end(), file, "row ",
                 r.name, ": baseline ", r.baseline, " is no row");
}

Experiment read_experiment(const fs::path& file) {
    toml::table table;
    try {
        table = toml::parse_file(file.string());
    } catch (const toml::parse_error& e) {
        fail(ErrorCode::usage, concat(file.string(), ":", e.source().begin.line), "not valid TOML: ", e.description());
    }
    Fields f(table, file.string(), "");
    Experiment x;
    x.name = file.stem().string();
    x.file = file;
    x.title = f.text("title");
    x.question = f.text("question");
    x.supports = f.text("supports");
    x.does_not_support = f.text("does_not_support");
    x.context = f.text("context");
    x.seeds = f.list<std::int64_t>("seeds", {1, 2, 3}, "a list of whole numbers");
    x.full_seeds = f.list<std::int64_t>("full_seeds", {1}, "a list of whole numbers");
    x.metrics = f.list<std::string>("metrics", {"accuracy", "tar_far_1e-2"}, "a list of texts");
    for (const std::string& m : x.metrics) metric_facts(m, file.string());
    x.images = f.take<std::int64_t>("images", 0, "a whole number");
    x.identities = f.take<std::int64_t>("identities", 0, "a whole number");
    x.curves = f.list<std::string>("curves", {}, "a list of rows");
    const std::string baseline = f.text("baseline");
    f.tables("row", [&x](Fields& r) { x.small.push_back(read_row(r, false)); });
    f.tables("full", [&x](Fields& r) { x.full.push_back(read_row(r, true)); });
    f.tables("chart", [&x](Fields& c) { x.charts.push_back({c.text("title"), c.text("x"), c.text("series")}); });
    f.tables("compare", [&x](Fields& c) {
        const std::string row = c.text("row"), with = c.text("with");
        for (const std::string& name : {row, with})
            BF_CHECK(std::any_of(x.small.begin(), x.small.end(), [&](const auto& r) { return r.name == name; }),
                     c.place(), "got \"", name, "\", want the name of a [[row]] above");
        x.pairs.emplace_back(row, with);
    });
    f.pass_over("config");
    f.finish();
    BF_CHECK(!x.title.empty() && !x.question.empty(), file.string(), "title and question: missing");
    BF_CHECK(!x.small.empty() || !x.full.empty(), file.string(), "no rows; want tables [[row]] or [[full]]");
    BF_CHECK(!x.seeds.empty() && !x.full_seeds.empty() && !x.metrics.empty(), file.string(),
             "seeds and metrics must not be empty");
    for (ExperimentRow& r : x.small)
        if (r.baseline.empty() && r.name != baseline) r.baseline = baseline;
    check_rows(x.small, file.string());
    check_rows(x.full, file.string());
    return x;
}

std::vector<fs::path> experiment_files(const fs::path& folder) {
    std::error_code error;
    BF_CHECK(fs::is_directory(folder, error), folder.string(),
             "is not a folder of experiments; hint: call bf where configs/experiments is, or --experiments DIR");
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder))
        if (entry.path().extension() == ".toml") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

std::vector<Experiment> load_experiments(const fs::path& folder) {
    std::vector<Experiment> all;
    for (const fs::path& file : experiment_files(folder)) all.push_back(read_experiment(file));
    return all;
}

Experiment load_experiment(const fs::path& folder, const std::string& name) {
    std::vector<std::string> names;
    for (const fs::path& file : experiment_files(folder)) {
        if (file.stem() == name) return read_experiment(file);
        names.push_back(file.stem().string());
    }
    const std::string near = nearest(name, names);
    fail(ErrorCode::usage, "reproduce", "unknown experiment: ", name,
         near.empty() ? "; hint: bf reproduce --list names all" : "; hint: did you mean " + near + "?");
}

}  // namespace bf::program
