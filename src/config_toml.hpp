#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "bf/train/config.hpp"

namespace bf::program {

/// Reads a TOML file (with its `base`, if it names one) and applies `a.b=c` settings. A usage Error names file and
/// line, the key, what was got and wanted, and the nearest known key.
RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& settings = {});
/// The same from text; `name` stands for the file in errors.
RunConfig parse_config(const std::string& text, const std::string& name, const std::vector<std::string>& settings = {});
/// The same from the table `section` of a file that holds other things too.
RunConfig load_config_section(const std::filesystem::path& file, const std::string& section,
                              const std::vector<std::string>& settings = {});
/// The value of a key as text, such as "512" for broadface.queue; a usage Error for an unknown key.
std::string value_text(const RunConfig& config, const std::string& key);
/// The whole configuration as TOML that reads back to the same.
std::string to_toml(const RunConfig& config);
/// A key that differs between two configurations, with its values as text.
struct ChangedKey {
    std::string key, before, now;
};
std::vector<ChangedKey> changed_keys(const RunConfig& before, const RunConfig& now);
/// One line a key: name, default, meaning.
std::string describe_keys();
/// The known word nearest to `word` by edit distance; empty when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace bf::program
