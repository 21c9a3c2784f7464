#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace bf::program {

/// A field of a CSV line, in quotes where it must be.
inline std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
}

/// The fields of a CSV line, quotes taken off; any of `separators` outside of quotes parts them.
inline std::vector<std::string> csv_fields(std::string_view line, std::string_view separators = ",") {
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"')
            fields.back() += line[++i];
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && separators.find(c) != std::string_view::npos)
            fields.emplace_back();
        else
            fields.back() += c;
    }
    return fields;
}

}  // namespace bf::program
