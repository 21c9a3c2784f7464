#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "bf/data/align.hpp"
#include "bf/io/lines.hpp"

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
    LineReader lines(source, {.max_line = 65536});
    bool found = false;
    for (std::string_view line; lines.next(line);) {
        line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
        if (line.empty() || line[0] == '#') continue;
        FaceLandmarks face;
        face.line = static_cast<std::size_t>(lines.number());
        const bool good = detail::parse_landmarks(line, face);
        if (!good && !found && lines.number() == 1) continue;  // the header
        if (!good) lines.bad("is no line of landmarks", "`file x1 y1 .. x5 y5 [score]` (or 68 points)", line);
        found = true;
        visit(static_cast<const FaceLandmarks&>(face));
    }
    BF_CHECK_DATA(found, source.name(), "names no image with landmarks");
}

}  // namespace bf
