#include "config_toml.hpp"

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "bf/base/error.hpp"
#include "bf/io/json.hpp"

namespace bf::program {
namespace {

/// Where a node was written: its own file (a base, a --set) if it knows it, else `file`.
std::string place(const toml::node& node, const std::string& file) {
    const toml::source_region& source = node.source();
    if (!source.begin.line) return file;
    const std::string& own = source.path ? *source.path : file;
    return own.rfind("--set ", 0) == 0 ? own : concat(own, ":", source.begin.line);
}
std::string written(const toml::node& node) {
    std::ostringstream out;
    node.visit([&out](const auto& n) { out << n; });
    return out.str();
}
std::string join(const std::vector<std::string>& words) {
    std::string all;
    for (std::size_t i = 0; i < words.size(); ++i)
        all += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
    return all;
}

/// Takes values out of a table; what is left at the end is unknown.
class Reader {
  public:
    Reader(toml::table& table, std::string file, std::string prefix)
        : table_(table), file_(std::move(file)), prefix_(std::move(prefix)) {}

    void text(const std::string& name, std::string& value, const char*) {
        if (const toml::node* node = take(name)) {
            if (!node->is_string()) wrong(*node, name, "a text in quotes");
            value = *node->value<std::string>();
        }
    }
    void choice(const std::string& name, std::string& value, const char*, const std::vector<std::string>& words) {
        if (const toml::node* node = take(name)) {
            const auto got = node->value<std::string>();
            if (!node->is_string() || std::find(words.begin(), words.end(), *got) == words.end()) {
                const std::string near = node->is_string() ? nearest(*got, words) : "";
                wrong(*node, name, join(words) + (near.empty() ? "" : "; hint: did you mean " + near + "?"));
            }
            value = *got;
        }
    }
    template <class T>
    void number(const std::string& name, T& value, const char*, double low, double high) {
        if (const toml::node* node = take(name)) {
            const bool right = std::is_floating_point_v<T> ? node->is_number() : node->is_integer();
            const double got = right ? *node->value<double>() : 0;
            if (!right || !(got >= low && got <= high))
                wrong(*node, name,
                      concat(std::is_floating_point_v<T> ? "a number in " : "a whole number in ", low, "..", high));
            value = *node->value<T>();
        }
    }
    template <class T>
    void numbers(const std::string& name, std::vector<T>& value, const char*) {
        if (const toml::node* node = take(name)) {
            const toml::array* list = node->as_array();
            constexpr bool real = std::is_floating_point_v<T>;
            const char* want = real ? "a list of finite numbers" : "a list of whole numbers in 0..2147483647";
            if (!list) wrong(*node, name, want);
            value.clear();
            for (const toml::node& item : *list) {
                const auto got = item.value<double>();
                if (!got || !(real ? item.is_number() && std::isfinite(*got)
                                   : item.is_integer() && *got >= 0 && *got <= 2147483647.0))
                    wrong(*node, name, want);
                value.push_back(*item.value<T>());
            }
        }
    }
    void flag(const std::string& name, bool& value, const char*) {
        if (const toml::node* node = take(name)) {
            if (!node->is_boolean()) wrong(*node, name, "true or false");
            value = *node->value<bool>();
        }
    }
    /// Complains about the first key that nobody took.
    void finish() {
        for (const auto& [key, node] : flatten(table_, "")) {
            if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
            const std::string near = nearest(key, known_);
            fail(ErrorCode::usage, place(*node, file_), "unknown key: ", prefix_, key,
                 near.empty() ? "; hint: bf train --help-config lists all keys"
                              : "; hint: did you mean " + prefix_ + near + "?");
        }
    }

  private:
    const toml::node* take(const std::string& name) {
        known_.push_back(name);
        return table_.at_path(name).node();
    }
    [[noreturn]] void wrong(const toml::node& node, const std::string& name, const std::string& want) const {
        fail(ErrorCode::usage, place(node, file_), prefix_, name, ": got ", written(node), ", want ", want);
    }
    static std::vector<std::pair<std::string, const toml::node*>> flatten(const toml::table& table,
                                                                          const std::string& prefix) {
        std::vector<std::pair<std::string, const toml::node*>> all;
        for (const auto& [key, node] : table) {
            const std::string name = prefix + std::string(key.str());
            if (const toml::table* inner = node.as_table())
                for (auto& item : flatten(*inner, name + ".")) all.push_back(item);
            else if (!(prefix.empty() && name == "val"))
                all.emplace_back(name, &node);
        }
        return all;
    }
    toml::table& table_;
    std::string file_, prefix_;
    std::vector<std::string> known_;
};

/// Overlays `over` on `under`, table by table. Nodes are moved: a copy would forget its file and line.
void merge(toml::table& under, toml::table&& over) {
    for (auto&& [key, node] : over) {
        toml::table* inner = node.as_table();
        toml::table* there = under[key].as_table();
        if (inner && there)
            merge(*there, std::move(*inner));
        else
            under.insert_or_assign(key, std::move(node));
    }
}

toml::table parse(const std::string& text, const std::string& name) {
    try {
        return toml::parse(text, name);
    } catch (const toml::parse_error& e) {
        fail(ErrorCode::usage, concat(name, ":", e.source().begin.line), "not valid TOML: ", e.description());
    }
}

toml::table read_file(const std::filesystem::path& file) {
    std::ifstream in(file);
    BF_CHECK(in, file.string(), "cannot be read; hint: does the configuration exist?");
    std::stringstream text;
    text << in.rdbuf();
    return parse(text.str(), file.string());
}

toml::table read_with_base(const std::filesystem::path& file, int depth);

/// A table of `file` over the file that its `base` names, if it names one.
toml::table over_base(toml::table table, const std::filesystem::path& file, int depth) {
    const toml::node* base = table.get("base");
    if (!base) return table;
    BF_CHECK(base->is_string() && !base->value<std::string>()->empty(), place(*base, file.string()), "base: got ",
             written(*base), ", want the name of a configuration file in quotes");
    toml::table under = read_with_base(file.parent_path() / *base->value<std::string>(), depth + 1);
    table.erase("base");
    merge(under, std::move(table));
    return under;
}

toml::table read_with_base(const std::filesystem::path& file, int depth) {
    BF_CHECK(depth < 8, file.string(), "base files refer to each other in a circle");
    return over_base(read_file(file), file, depth);
}

void apply(toml::table& table, const std::string& setting) {
    const std::size_t equals = setting.find('=');
    BF_CHECK(equals != std::string::npos && equals > 0, "--set", "got ", setting,
             ", want key=value, such as --set batch_size=64");
    const std::string key = setting.substr(0, equals), value = setting.substr(equals + 1);
    BF_CHECK(key != "base", "--set", "base names a file in a configuration file only; got ", setting);
    toml::table one;
    try {
        one = toml::parse(key + " = " + value, "--set " + setting);
    } catch (const toml::parse_error&) {
        one = parse(key + " = " + json_quote(value), "--set " + setting);  // a bare word is a text
    }
    merge(table, std::move(one));
}

/// The head that `loss` names has the margin that is its own, and no other head's: a margin that is silently off would
/// only show in the accuracy.
void check_margins(RunConfig& c, bool given, const std::string& where) {
    auto& m = c.margin_list;
    if (!given) {  // the usual margin of the head (math/margin.hpp)
        if (c.loss == "cosface") m = {1, 0, 0.4};
        if (c.loss == "sphereface") m = {4, 0, 0};
        if (c.loss == "softmax" || c.loss == "magface") m = {1, 0, 0};
        if (c.loss == "adaface") m = {1, 0, 0.4};
        if (c.loss == "elasticface_cos") m = {1, 0, 0.35};
    }
    BF_CHECK(m.size() == 3, where, "margin_list: got ", m.size(), " numbers, want 3 (m1, m2, m3)");
    if (c.loss == "combined") return;
    const bool sphere = c.loss == "sphereface",
               arc = c.loss == "arcface" || c.loss == "elasticface_arc" || c.loss == "curricularface" ||
                     c.loss == "subcenter_arcface",
               cos = c.loss == "cosface" || c.loss == "elasticface_cos" || c.loss == "adaface";
    const bool right = (sphere ? m[0] >= 2 && m[0] <= 1000 && m[0] == std::floor(m[0]) : m[0] == 1) &&
                       (arc ? m[1] > 0 : m[1] == 0) && (cos ? m[2] > 0 : m[2] == 0);
    BF_CHECK(right, where, "margin_list: got [", m[0], ", ", m[1], ", ", m[2], "] with loss ", c.loss, ", want ",
             arc      ? "[1, m2, 0] with m2 > 0"
             : cos    ? "[1, 0, m3] with m3 > 0"
             : sphere ? "[m1, 0, 0] with a whole m1 of 2 or more"
                      : "[1, 0, 0]",
             "; hint: loss = \"combined\" uses all three");
}

void check_val(const ValConfig& val, const std::string& where) {
    const bool labelled = val.kind == "folder" || val.kind == "omniglot";
    BF_CHECK(val.kind == "synthetic" || labelled || !val.pairs.empty(), where,
             "val.pairs: missing; want the pairs file of kind ", val.kind);
    BF_CHECK(!labelled || val.pairs.empty(), where, "val.pairs: kind ", val.kind, " draws its pairs from the labels");
    BF_CHECK(!labelled || !val.root.empty(), where, "val.root: missing; want the images of kind ", val.kind);
    BF_CHECK(val.alphabets.empty() || val.kind == "omniglot", where,
             "val.alphabets: only omniglot has alphabets; got val.kind ", val.kind);
    BF_CHECK(val.kind == "folder" ? val.only_fold <= val.identity_folds : val.identity_folds == 0, where,
             "val.identity_folds: got ", val.identity_folds, " with val.only_fold ", val.only_fold, ", kind ", val.kind,
             "; want kind folder, and at least val.only_fold");
}

RunConfig read(toml::table& table, const std::string& name) {
    RunConfig config;
    Reader reader(table, name, "");
    visit_keys(config, reader);
    if (toml::node* node = table.get("val")) {
        toml::array* list = node->as_array();
        BF_CHECK(list, place(*node, name), "val: want tables [[val]]");
        for (toml::node& item : *list) {
            BF_CHECK(item.is_table(), place(item, name), "val: want tables [[val]]");
            ValConfig val;
            Reader val_reader(*item.as_table(), name, "val.");
            visit_keys(val, val_reader);
            val_reader.finish();
            check_val(val, place(item, name));
            config.val.push_back(val);
        }
    }
    reader.finish();
    const toml::node* margins = table.get("margin_list");
    check_margins(config, margins, margins ? place(*margins, name) : name);
    BF_CHECK(config.head.l_a < config.head.u_a, name, "head.l_a: got ", config.head.l_a, ", want less than u_a ",
             config.head.u_a);
    BF_CHECK(config.loss != "subcenter_arcface" || config.memory == "broadface", name, "memory: got ", config.memory,
             ", want broadface with loss subcenter_arcface: a pair or a prototype of ", config.memory,
             " knows one row an identity");
    const std::string& loss = config.loss;
    const bool one_margin =
        loss == "arcface" || loss == "cosface" || loss == "combined" || loss == "sphereface" || loss == "softmax";
    BF_CHECK(!config.measure_classifier || one_margin, name, "measure_classifier: got loss ", config.loss,
             ", want one whose margin is the same for each image: arcface, cosface, combined, sphereface, "
             "softmax");
    const NetworkFacts& facts = network_facts(config.network);
    config.network = facts.name;
    if (!table.get("image_size")) config.image_size = facts.image_size;
    BF_CHECK(image_size_fits(facts, config.image_size), name, "image_size: got ", config.image_size,
             ", want a multiple of ", facts.image_step, ", from ", std::max(facts.image_step, facts.smallest),
             " on, for ", facts.name);
    BF_CHECK(config.data.kind == "synthetic" || !config.data.root.empty(), name,
             "data.root: missing; want the images of kind ", config.data.kind);
    BF_CHECK(config.data.kind != "list" || !config.data.list.empty(), name,
             "data.list: missing; want the list file of kind list");
    BF_CHECK(config.data.kind == "folder" || config.data.identity_folds == 0, name,
             "data.identity_folds: only kind folder deals identities out; got data.kind ", config.data.kind);
    BF_CHECK(config.data.kind != "folder" || config.data.identity_folds > 0 ||
                 (config.data.only_folds.empty() && config.data.exclude_folds.empty()),
             name, "data.identity_folds: missing; a folder has no folds of its own");
    BF_CHECK(config.data.kind == "omniglot" || (config.data.alphabets.empty() && config.data.exclude_alphabets.empty()),
             name, "data.alphabets, data.exclude_alphabets: only omniglot has alphabets; got data.kind ",
             config.data.kind);
    BF_CHECK(config.data.sampler != "balanced" || config.batch_size % config.data.identity_images_per_batch == 0, name,
             "data.identity_images_per_batch: got ", config.data.identity_images_per_batch,
             ", want a divisor of batch_size ", config.batch_size);
    BF_CHECK(config.augment.erase_min_area <= config.augment.erase_max_area, name, "augment.erase_min_area: got ",
             config.augment.erase_min_area, ", want at most erase_max_area ", config.augment.erase_max_area);
    BF_CHECK(config.data.kind == "list" || config.data.kind == "folder" ||
                 (config.data.only_folds.empty() && config.data.exclude_folds.empty()),
             name, "data.only_folds, data.exclude_folds: only a list and a folder have folds; got data.kind ",
             config.data.kind);
    return config;
}

/// Writes the keys of one table.
class Writer {
  public:
    void text(const std::string& name, const std::string& value, const char*) { put(name, json_quote(value)); }
    void choice(const std::string& name, const std::string& value, const char*, const std::vector<std::string>&) {
        put(name, json_quote(value));
    }
    void number(const std::string& name, double value, const char*, double, double) {
        const std::string digits = json_number(value);
        put(name, digits.find_first_of(".en") == std::string::npos ? digits + ".0" : digits);
    }
    void number(const std::string& name, std::int64_t value, const char*, double, double) {
        put(name, std::to_string(value));
    }
    template <class T>
    void numbers(const std::string& name, const std::vector<T>& value, const char*) {
        std::string list = "[";
        for (std::size_t i = 0; i < value.size(); ++i) {
            Writer one;
            one.number("x", value[i], "", 0, 0);
            list += (i ? ", " : "") + one.last_;
        }
        put(name, list + "]");
    }
    void flag(const std::string& name, bool value, const char*) { put(name, value ? "true" : "false"); }
    std::string out;

  private:
    void put(const std::string& name, const std::string& value) {
        last_ = value;
        const std::size_t dot = name.find('.');
        const std::string table = dot == std::string::npos ? "" : name.substr(0, dot);
        if (table != table_) {
            out += "\n[" + table + "]\n";
            table_ = table;
        }
        out += (dot == std::string::npos ? name : name.substr(dot + 1)) + " = " + value + "\n";
    }
    std::string table_, last_;
};

class Describer {
  public:
    explicit Describer(std::string prefix) : prefix_(std::move(prefix)) {}
    void text(const std::string& name, const std::string& value, const char* meaning) {
        put(name, json_quote(value), meaning);
    }
    void choice(const std::string& name, const std::string& value, const char* meaning,
                const std::vector<std::string>& words) {
        put(name, json_quote(value), std::string(meaning) + ": " + join(words));
    }
    template <class T>
    void number(const std::string& name, const T& value, const char* meaning, double, double) {
        put(name, json_number(static_cast<double>(value)), meaning);
    }
    template <class T>
    void numbers(const std::string& name, const std::vector<T>& value, const char* meaning) {
        std::string list;
        for (const T& v : value) list += (list.empty() ? "" : ", ") + json_number(static_cast<double>(v));
        put(name, "[" + list + "]", meaning);
    }
    void flag(const std::string& name, bool value, const char* meaning) {
        put(name, value ? "true" : "false", meaning);
    }
    std::string out;
    std::map<std::string, std::string> values;  ///< by name

  private:
    void put(const std::string& name, const std::string& value, const std::string& meaning) {
        values[name] = value;
        std::string line = prefix_ + name + " = " + value;
        line.resize(std::max<std::size_t>(line.size() + 2, 40), ' ');
        out += line + meaning + "\n";
    }
    std::string prefix_;
};

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
    std::string best;
    std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const std::string& k : known) {
        std::vector<std::size_t> row(k.size() + 1);
        for (std::size_t j = 0; j <= k.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= word.size(); ++i) {
            std::size_t diagonal = row[0];
            row[0] = i;
            for (std::size_t j = 1; j <= k.size(); ++j) {
                const std::size_t replaced = diagonal + (word[i - 1] != k[j - 1]);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
            }
        }
        if (row.back() < best_distance) {
            best_distance = row.back();
            best = k;
        }
    }
    return best;
}

RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& settings) {
    toml::table table = read_with_base(file, 0);
    for (const std::string& s : settings) apply(table, s);
    return read(table, file.string());
}

RunConfig load_config_section(const std::filesystem::path& file, const std::string& section,
                              const std::vector<std::string>& settings) {
    toml::table whole = read_file(file);
    toml::table* part = whole.get_as<toml::table>(section);
    BF_CHECK(part, file.string(), "[", section, "]: missing; want a table with keys of a configuration");
    toml::table table = over_base(std::move(*part), file, 0);
    for (const std::string& s : settings) apply(table, s);
    return read(table, file.string());
}

std::string value_text(const RunConfig& config, const std::string& key) {
    RunConfig copy = config;
    Describer keys("");
    visit_keys(copy, keys);
    const auto found = keys.values.find(key);
    BF_CHECK(found != keys.values.end(), key, "unknown key; hint: bf train --help-config lists all keys");
    return found->second;
}

RunConfig parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings) {
    toml::table table = parse(text, name);
    for (const std::string& s : settings) apply(table, s);
    return read(table, name);
}

std::string to_toml(const RunConfig& config) {
    RunConfig copy = config;
    Writer writer;
    visit_keys(copy, writer);
    for (ValConfig& val : copy.val) {
        Writer one;
        visit_keys(val, one);
        writer.out += "\n[[val]]\n" + one.out;
    }
    return writer.out;
}

std::vector<ChangedKey> changed_keys(const RunConfig& before, const RunConfig& now) {
    const auto lines = [](RunConfig config) {
        Describer keys("");
        visit_keys(config, keys);
        for (std::size_t i = 0; i < config.val.size(); ++i) {
            Describer val("");
            visit_keys(config.val[i], val);
            for (const auto& [name, value] : val.values) keys.values["val[" + std::to_string(i) + "]." + name] = value;
        }
        return keys.values;
    };
    const auto old_values = lines(before), new_values = lines(now);
    std::vector<ChangedKey> changed;
    const auto value_of = [](const auto& values, const std::string& key) {
        const auto it = values.find(key);
        return it == values.end() ? std::string("(none)") : it->second;
    };
    auto names = new_values;
    names.insert(old_values.begin(), old_values.end());
    for (const auto& [key, ignored] : names)
        if (value_of(old_values, key) != value_of(new_values, key))
            changed.push_back({key, value_of(old_values, key), value_of(new_values, key)});
    return changed;
}

std::string describe_keys() {
    RunConfig run;
    ValConfig val;
    Describer keys(""), vals("  ");
    keys.text("base", "", "a configuration, relative to this file, whose keys this file changes and adds to");
    visit_keys(run, keys);
    visit_keys(val, vals);
    return keys.out + "\n[[val]]  one table a verification set:\n" + vals.out;
}

}  // namespace bf::program
