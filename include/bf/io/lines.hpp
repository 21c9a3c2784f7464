#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/io/source.hpp"

namespace bf {

/// Bounds on a text list.
struct LineLimits {
    std::uint64_t max_bytes = std::uint64_t{4} << 30;  ///< of the file
    std::size_t max_line = 4096;                       ///< bytes of a line
};

/// The lines of a text, one after another, from a window of 64 KiB. LF and CRLF end a line; a byte order mark at the
/// start is left out; a zero byte is an error, for then it is not a text.
class LineReader {
  public:
    explicit LineReader(const Source& source, const LineLimits& limits = {}) : source_(source), limits_(limits) {
        BF_CHECK_DATA(source.size() <= limits.max_bytes, source.name(), "is too large for a list; got ", source.size(),
                      " bytes, want at most ", limits.max_bytes);
    }
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;

    /// The next line without its end, valid until the next call; false at the end of the text.
    bool next(std::string_view& line) {
        for (std::size_t searched = 0;;) {
            const auto* start = window_.data() + begin_;
            const void* end =
                searched < held_ - begin_ ? std::memchr(start + searched, '\n', held_ - begin_ - searched) : nullptr;
            const bool all = at_ == source_.size();
            if (!end && !all) {
                searched = held_ - begin_;
                BF_CHECK_DATA(searched <= limits_.max_line, next_place(), "line is too long; want at most ",
                              limits_.max_line, " bytes; hint: is it a text list?");
                fill();
                continue;
            }
            if (!end && begin_ == held_) return false;
            const std::size_t length =
                end ? static_cast<std::size_t>(static_cast<const char*>(end) - start) : held_ - begin_;
            line = std::string_view(start, length);
            begin_ += length + (end ? 1 : 0);
            ++number_;
            BF_CHECK_DATA(length <= limits_.max_line, where(), "line is too long; want at most ", limits_.max_line,
                          " bytes; hint: is it a text list?");
            BF_CHECK_DATA(line.find('\0') == std::string_view::npos, where(),
                          "holds a zero byte; hint: is it a text list in UTF-8?");
            if (number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
            if (line.ends_with('\r')) line.remove_suffix(1);
            return true;
        }
    }
    /// The next line that is not blank.
    bool next_filled(std::string_view& line) {
        while (next(line))
            if (line.find_first_not_of(" \t") != std::string_view::npos) return true;
        return false;
    }
    /// Number of the last line, from 1; 0 before the first.
    std::int64_t number() const { return number_; }
    /// FILE:LINE of the last line, for errors.
    std::string where() const { return source_.name() + ":" + std::to_string(number_); }
    const std::string& name() const { return source_.name(); }
    /// Throws a data Error `FILE:LINE: what; got ..., want ...`.
    [[noreturn]] void bad(std::string_view what, std::string_view want, std::string_view got) const {
        fail(ErrorCode::data, where(), what, "; got `", got.substr(0, 120), "`, want ", want);
    }

  private:
    std::string next_place() const { return source_.name() + ":" + std::to_string(number_ + 1); }
    /// Moves what is unread to the front and reads on behind it.
    void fill() {
        window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(begin_));
        held_ -= begin_;
        begin_ = 0;
        const auto more = static_cast<std::size_t>(std::min<std::uint64_t>(65536, source_.size() - at_));
        window_.resize(held_ + more);
        source_.read(at_, std::as_writable_bytes(std::span(window_.data() + held_, more)));
        held_ += more;
        at_ += more;
    }

    const Source& source_;
    LineLimits limits_;
    std::vector<char> window_;
    std::size_t begin_ = 0, held_ = 0;  ///< unread part of the window
    std::uint64_t at_ = 0;              ///< read from the source so far
    std::int64_t number_ = 0;
};

/// The fields of a line between blanks and tabs (or `separator` alone, blanks around each field removed).
inline std::vector<std::string_view> fields_of(std::string_view line, char separator = ' ') {
    std::vector<std::string_view> fields;
    constexpr std::string_view blank = " \t";
    if (separator != ' ') {
        for (;;) {
            const std::size_t end = std::min(line.find(separator), line.size());
            std::string_view field = line.substr(0, end);
            field.remove_prefix(std::min(field.find_first_not_of(blank), field.size()));
            field = field.substr(0, field.find_last_not_of(blank) + 1);
            fields.push_back(field);
            if (end == line.size()) return fields;
            line.remove_prefix(end + 1);
        }
    }
    for (std::size_t at = 0; (at = line.find_first_not_of(blank, at)) != std::string_view::npos;) {
        const std::size_t end = std::min(line.find_first_of(blank, at), line.size());
        fields.push_back(line.substr(at, end - at));
        at = end;
    }
    return fields;
}

/// Takes the next word off `rest`, words standing between blanks and tabs; empty when there is none.
inline std::string_view take_word(std::string_view& rest) {
    std::size_t begin = 0;
    while (begin < rest.size() && (rest[begin] == ' ' || rest[begin] == '\t')) ++begin;
    std::size_t end = begin;
    while (end < rest.size() && rest[end] != ' ' && rest[end] != '\t') ++end;
    const std::string_view word = rest.substr(begin, end - begin);
    rest.remove_prefix(end);
    return word;
}

/// True if the whole word is a number of type T (finite, if it is a fraction).
template <class T>
bool parse_number(std::string_view word, T& value) {
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size()) return false;
    if constexpr (std::is_floating_point_v<T>) return std::isfinite(value);
    return true;
}

/// The start of a line, for errors.
inline std::string excerpt(std::string_view line) { return std::string(line.substr(0, 120)); }

}  // namespace bf
