#pragma once
#include <charconv>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "bf/data/align.hpp"
#include "bf/io/source.hpp"

namespace bf {

/// A line of a list of landmarks.
struct FaceLandmarks {
    std::string file;  ///< as written, relative to the list's images
    Landmarks points{};
    double score = 1;  ///< of the detector, where the line has one (IJB)
    std::size_t line = 0;
};

namespace detail {
/// A line `file n1 n2 ..` as landmarks: false if it is none. The name ends at the first tab, else the first comma, else
/// the first blank, so that names with blanks are possible; numbers are parted by any of them.
inline bool parse_landmarks(std::string_view text, FaceLandmarks& out) {
    std::size_t end = text.find('\t');
    if (end == std::string_view::npos) end = text.find(',');
    if (end == std::string_view::npos) end = text.find(' ');
    if (end == std::string_view::npos || end == 0) return false;
    out.file = text.substr(0, end);
    std::array<double, 137> numbers;
    std::size_t count = 0;
    for (const char *at = text.data() + end, *last = text.data() + text.size();;) {
        while (at < last && (*at == ' ' || *at == '\t' || *at == ',')) ++at;
        if (at == last) break;
        if (count == numbers.size()) return false;
        const auto [next, error] = std::from_chars(at, last, numbers[count]);
        if (error != std::errc() || (next < last && *next != ' ' && *next != '\t' && *next != ',')) return false;
        at = next;
        ++count;
    }
    const std::size_t points = count / 2;
    if (points != 5 && points != 68) return false;
    std::array<Point, 68> p;
    for (std::size_t i = 0; i < points; ++i) p[i] = {numbers[2 * i], numbers[2 * i + 1]};
    if (points == 68)
        out.points = five_of_68(p);
    else
        std::copy_n(p.begin(), 5, out.points.begin());
    out.score = count % 2 ? numbers[count - 1] : 1;
    return true;
}
}  // namespace detail

/// Calls visit(const FaceLandmarks&) for each line of a list: a file, then 5 points or the 68 of iBUG as x y x y ..,
/// then perhaps a score (IJB's ijbX_name_5pts_score.txt), parted by blanks, tabs or commas. Blank lines and lines
/// that begin with # are passed over, and the first line where it is a header. Any other line is a data Error that
/// names it. A number may be nan (no face found): estimate_similarity() refuses that one later.
template <class Visit>
void read_landmarks(const Source& source, Visit&& visit) {
    constexpr std::size_t longest = 65536;
    std::string held;
    std::size_t number = 0;
    bool found = false;
    const auto take = [&](std::string_view line) {
        ++number;
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t'))
            line.remove_suffix(1);
        if (line.empty() || line[0] == '#') return;
        FaceLandmarks face;
        face.line = number;
        const bool good = detail::parse_landmarks(line, face);
        if (!good && !found && number == 1) return;  // the header
        BF_CHECK_DATA(good, concat(source.name(), ":", number),
                      "not `file x1 y1 .. x5 y5 [score]` (or 68 points); got ", line.substr(0, 120));
        found = true;
        visit(static_cast<const FaceLandmarks&>(face));
    };
    for (std::uint64_t at = 0; at < source.size();) {
        const auto bytes = source.bytes(at, std::min<std::uint64_t>(longest, source.size() - at));
        at += bytes.size();
        held.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        std::size_t begin = 0;
        for (std::size_t end; (end = held.find('\n', begin)) != std::string::npos; begin = end + 1)
            take(std::string_view(held).substr(begin, end - begin));
        held.erase(0, begin);
        BF_CHECK_DATA(held.size() <= longest, concat(source.name(), ":", number + 1), "line is longer than ", longest,
                      " bytes; hint: is it a list of landmarks?");
    }
    if (!held.empty()) take(held);
    BF_CHECK_DATA(found, source.name(), "names no image with landmarks");
}

}  // namespace bf
