#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bf/data/name_list.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/lines.hpp"

// MegaFace's lists and feature files: those of its devkit and of InsightFace's test pack.

namespace bf {

/// A feature list: `{"id": [...], "path": [...]}` of the devkit, or text with a path a line.
struct MegaFaceList {
    NameList paths, ids;  ///< ids: empty, or one a path
};

namespace detail {
/// Reads the devkit's list from a text as it streams: one object of arrays of strings or numbers, of which `id` and
/// `path` are kept. Nothing is nested deeper, so nothing recurs.
class MegaFaceJson {
  public:
    explicit MegaFaceJson(const Source& source) : source_(source), buffer_(std::size_t{1} << 20) {}

    MegaFaceList read() {
        MegaFaceList out;
        expect('{');
        for (bool more = peek() != '}'; more;) {
            const std::string key = string();
            expect(':');
            NameList* list = key == "path" ? &out.paths : key == "id" ? &out.ids : nullptr;
            if (list) {
                if (list->size()) bad("\"" + key + "\" stands twice");
                list->reserve(source_.size() / 8, 0);
            }
            expect('[');
            for (bool items = peek() != ']'; items;) {
                const std::string item = peek() == '"' ? string() : word();
                if (list) {
                    // bounds what is kept to four times the text
                    if (item.empty() || list->size() > source_.size() / 4) bad("names are empty or one digit long");
                    list->add(item);
                }
                items = peek() == ',';
                if (items) ++at_;
            }
            expect(']');
            more = peek() == ',';
            if (more) ++at_;
        }
        expect('}');
        if (peek() != '\0') bad("text after the list");
        if (out.ids.size() && out.ids.size() != out.paths.size())
            bad("counts differ; got " + std::to_string(out.ids.size()) + " ids, " + std::to_string(out.paths.size()) +
                " paths");
        return out;
    }

  private:
    [[noreturn]] void bad(const std::string& what) const {
        fail(ErrorCode::data, source_.name(), "not a devkit's list: ", what, " at byte ", start_ + at_,
             "; want {\"id\": [...], \"path\": [...]}");
    }
    /// The next character as it stands; zero at the end.
    char next() {
        if (at_ == filled_) {
            start_ += filled_;
            at_ = 0;
            filled_ = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), source_.size() - start_));
            source_.read(start_, std::span(buffer_).first(filled_));
            if (filled_ == 0) return '\0';
        }
        return static_cast<char>(buffer_[at_]);
    }
    char peek() {
        char c = next();
        while (c == ' ' || c == '\n' || c == '\t' || c == '\r') ++at_, c = next();
        return c;
    }
    void expect(char c) {
        if (peek() != c) bad(std::string("want `") + c + "`");
        ++at_;
    }
    std::string word() {
        std::string out;
        for (char c = next(); (c >= '0' && c <= '9') || c == '-' || c == '.'; c = next()) out += c, ++at_;
        if (out.empty() || out.size() > 64) bad("want text in quotes");
        return out;
    }
    std::string string() {
        expect('"');
        std::string out;
        for (char c = next(); c != '"'; c = next()) {
            if (c == '\0' || out.size() > 4096) bad("text without end");
            ++at_;
            if (c == '\\') {
                c = next();
                ++at_;
                if (c == 'u')
                    c = code();
                else if (c != '"' && c != '\\' && c != '/')
                    bad("unknown escape");
            }
            out += c;
        }
        ++at_;
        return out;
    }
    /// \u00XX as Python writes it; names of people outside ASCII stand in no list of MegaFace.
    char code() {
        unsigned value = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const char h = next();
            const int digit = h >= '0' && h <= '9'                 ? h - '0'
                              : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10
                                                                   : -1;
            if (digit < 0) bad("bad \\u escape");
            value = value * 16 + static_cast<unsigned>(digit);
        }
        if (value == 0 || value > 127) bad("a character outside ASCII");
        return static_cast<char>(value);
    }
    const Source& source_;
    std::vector<std::byte> buffer_;
    std::uint64_t start_ = 0;  // of the buffer
    std::size_t at_ = 0, filled_ = 0;
};
}  // namespace detail

/// Reads a list of either kind; which it is shows its first character, `{` or another.
inline MegaFaceList read_megaface_list(const Source& source) {
    MegaFaceList out;
    if (source.size() > 0 && source.number<char>(0) == '{') {
        out = detail::MegaFaceJson(source).read();
    } else {
        out.paths.reserve(source.size() / 2 + 1, source.size());
        LineReader reader(source);
        for (std::string_view line; reader.next(line);) {
            while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
            if (line.find('\0') != std::string_view::npos) reader.bad("not text", "a path a line", "\\0");
            if (!line.empty()) out.paths.add(line);
        }
    }
    BF_CHECK_DATA(out.paths.size() > 0, source.name(), "names no image");
    return out;
}

/// The last `parts` components of a path.
inline std::string_view path_end(std::string_view path, int parts) {
    std::size_t at = path.size();
    while (parts-- > 0 && at != 0) {
        at = path.find_last_of('/', at - 1);
        if (at == std::string_view::npos) return path;
    }
    return at < path.size() && path[at] == '/' ? path.substr(at + 1) : path.substr(at);
}

/// Reads a list of noisy images (InsightFace's facescrub_noises.txt, megaface_noises.txt): a name a line, or the second
/// of two columns with a tab between; lines that begin with # are left out. Sorted. An empty list is allowed.
inline std::vector<std::string> read_noise_list(const Source& source) {
    std::vector<std::string> out;
    LineReader reader(source);
    for (std::string_view line; reader.next(line);) {
        if (line.empty() || line[0] == '#') continue;
        if (const std::size_t tab = line.find('\t'); tab != std::string_view::npos) line.remove_prefix(tab + 1);
        std::string_view rest = line;
        const std::string_view name = take_word(rest);
        if (name.empty() || !take_word(rest).empty())
            reader.bad("not the name of an image", "`name` or `number<TAB>name`", line);
        out.emplace_back(name);
        BF_CHECK_DATA(out.size() <= 100'000, source.name(), "names more than 100,000 images; want the some hundreds ",
                      "of a noise list; hint: is it another list?");
    }
    std::sort(out.begin(), out.end());
    return out;
}

/// Reads a feature file of the devkit (OpenCV's matrix header: i32 rows, columns, bytes an element, type 5; then f32).
/// Appends the D numbers to `out`; a data Error unless there is one row or column of f32, 1..65536 finite numbers.
inline void read_feature_file(const Source& source, std::vector<float>& out) {
    const auto word = [&](int i) { return source.number<std::int32_t>(static_cast<std::uint64_t>(4 * i)); };
    const std::int32_t rows = word(0), cols = word(1), bytes = word(2), type = word(3);
    BF_CHECK_DATA(
        (rows == 1 || cols == 1) && rows > 0 && cols > 0 && std::max(rows, cols) <= 65536 && bytes == 4 && type == 5,
        source.name(), "header; got rows ", rows, ", columns ", cols, ", bytes ", bytes, ", type ", type,
        ", want D, 1, 4, 5 (OpenCV's matrix of f32)");
    const auto dim = static_cast<std::size_t>(std::max(rows, cols));
    BF_CHECK_DATA(source.size() == 16 + 4 * dim, source.name(), "size; got ", source.size(), " bytes, want ",
                  16 + 4 * dim, " for ", dim, " numbers; hint: is the file cut?");
    const std::size_t at = out.size();
    out.resize(at + dim);
    source.read(16, std::as_writable_bytes(std::span(out).subspan(at)));
    for (std::size_t i = at; i < out.size(); ++i)
        BF_CHECK_DATA(std::isfinite(out[i]), source.name(), "number ", i - at, " is not finite");
}

/// Writes such a file.
inline void write_feature_file(const std::filesystem::path& path, std::span<const float> feature) {
    const std::int32_t header[4] = {static_cast<std::int32_t>(feature.size()), 1, 4, 5};
    AtomicFile file(path);
    file.write(header, sizeof header);
    file.write(feature.data(), feature.size_bytes());
    file.commit();
}

}  // namespace bf
