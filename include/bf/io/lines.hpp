#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

#include "bf/io/source.hpp"

namespace bf {

/// The lines of a text, one after the other, with 1 MiB of it in memory. A line's view lasts until the next call.
class LineReader {
  public:
    explicit LineReader(const Source& source) : source_(source), buffer_(chunk) {}

    /// The next line without its end (LF or CRLF); false after the last. A line over 64 KiB is a data Error.
    bool next(std::string_view& line) {
        for (;;) {
            const char* begin = text() + at_;
            if (const auto* end = static_cast<const char*>(std::memchr(begin, '\n', filled_ - at_))) {
                at_ += static_cast<std::size_t>(end - begin) + 1;
                return take(line, begin, end);
            }
            if (read_ == source_.size()) {
                if (at_ == filled_) return false;
                at_ = filled_;
                return take(line, begin, text() + filled_);
            }
            if (filled_ - at_ > longest) {
                ++number_;
                bad("longer than 64 KiB", "lines of text", {begin, 40});
            }
            std::memmove(buffer_.data(), buffer_.data() + at_, filled_ - at_);
            filled_ -= at_;
            at_ = 0;
            const std::uint64_t more = std::min<std::uint64_t>(buffer_.size() - filled_, source_.size() - read_);
            source_.read(read_, std::span(buffer_).subspan(filled_, static_cast<std::size_t>(more)));
            read_ += more;
            filled_ += static_cast<std::size_t>(more);
        }
    }
    /// 1-based number of the line that next() gave.
    std::uint64_t number() const { return number_; }
    /// Throws a data Error `FILE:LINE: what; got ..., want ...`.
    [[noreturn]] void bad(std::string_view what, std::string_view want, std::string_view got) const {
        fail(ErrorCode::data, concat(source_.name(), ":", number_), what, "; got `", got.substr(0, 120), "`, want ",
             want);
    }

  private:
    static constexpr std::size_t chunk = std::size_t{1} << 20, longest = std::size_t{1} << 16;
    const char* text() const { return reinterpret_cast<const char*>(buffer_.data()); }
    bool take(std::string_view& line, const char* begin, const char* end) {
        ++number_;
        if (end > begin && end[-1] == '\r') --end;
        line = {begin, static_cast<std::size_t>(end - begin)};
        if (line.size() > longest) bad("longer than 64 KiB", "lines of text", line.substr(0, 40));
        return true;
    }
    const Source& source_;
    std::vector<std::byte> buffer_;
    std::size_t at_ = 0, filled_ = 0;
    std::uint64_t read_ = 0, number_ = 0;
};

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

}  // namespace bf
