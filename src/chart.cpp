#include "chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <sstream>

#include "bf/base/error.hpp"

namespace bf::program {

std::string escape(const std::string& text) {
    std::string out;
    for (const char c : text)
        out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
    return out;
}

std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

namespace {

/// A tick's label: as few digits as tell the ticks apart.
std::string tick_text(double v) {
    char text[48];
    std::snprintf(text, sizeof text, std::abs(v) >= 1e5 || (v != 0 && std::abs(v) < 1e-3) ? "%.0e" : "%.5g", v);
    return text;
}
/// Round tick values over [low, high].
std::vector<double> ticks(double low, double high) {
    const double raw = (high - low) / 5, power = std::pow(10, std::floor(std::log10(raw)));
    double step = power;
    for (const double m : {2.0, 5.0, 10.0})
        if (raw > step * 1.001) step = m * power;
    std::vector<double> all;
    const double first = std::ceil(low / step);
    for (int i = 0; i < 12 && (first + i) * step <= high + 1e-9 * step; ++i) all.push_back((first + i) * step);
    return all;
}

/// Ticks of one side; on a logarithmic one, whose bounds are exponents, at powers of ten, and at 2 and 5 times these
/// where they are few.
std::vector<double> ticks_of(double low, double high, bool log) {
    if (!log) return ticks(low, high);
    std::vector<double> all;
    for (double e = std::floor(low); e <= high + 1e-9; ++e)
        for (const double within : {0.0, std::log10(2.0), std::log10(5.0)})
            if (e + within >= low - 1e-9 && e + within <= high + 1e-9 && (within == 0 || high - low < 2))
                all.push_back(e + within);
    return all;
}

constexpr int width = 520, height = 320;  // of a chart

/// The body of a chart in an svg element with these attributes; empty without points.
std::string draw_with(const Chart& chart, const std::string& attributes, const std::string& style) {
    constexpr double left = 62, right = 14, top = 52, bottom = 46;
    const auto drawn = [&](const std::pair<double, double>& p) {
        return (!chart.log_x || p.first > 0) && (!chart.log_y || p.second > 0);
    };
    const auto scaled = [&](const std::pair<double, double>& p) {
        return std::pair(chart.log_x ? std::log10(p.first) : p.first, chart.log_y ? std::log10(p.second) : p.second);
    };
    double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
    const auto spread = [](const Series& s, std::size_t i) {
        return i < s.errors.size() && std::isfinite(s.errors[i]) ? s.errors[i] : 0.0;
    };
    for (const Series& s : chart.series)
        for (std::size_t i = 0; i < s.points.size(); ++i)
            for (const double end : {-spread(s, i), spread(s, i)}) {
                const std::pair point(s.points[i].first, s.points[i].second + end);
                if (!drawn(point)) continue;
                const auto [x, y] = scaled(point);
                x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
            }
    if (!(x0 <= x1)) return "";
    if (x1 - x0 < 1e-9) x1 = x0 + 1;
    // nearly equal values (rounding apart) are drawn as one level
    if (y1 - y0 <= 1e-9 * std::max(std::abs(y0), std::abs(y1)) || y0 == y1)
        y0 -= 0.5 * std::max(1e-6, std::abs(y0)), y1 += 0.5 * std::max(1e-6, std::abs(y1));
    const double pad = 0.05 * (y1 - y0);
    y0 = y0 >= 0 && y0 - pad < 0 ? 0 : y0 - pad;
    y1 += pad;
    const auto px = [&](double x) { return left + (x - x0) / (x1 - x0) * (width - left - right); };
    const auto py = [&](double y) { return height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom); };
    std::ostringstream svg;
    svg << "<svg viewBox=\"0 0 " << width << ' ' << height << "\" role=\"img\" aria-label=\"" << escape(chart.title)
        << '"' << attributes << '>' << style << "<text class=\"title\" x=\"8\" y=\"18\">" << escape(chart.title)
        << "</text>";
    for (const double t : ticks_of(y0, y1, chart.log_y))
        svg << "<line class=\"grid-line\" x1=\"" << left << "\" x2=\"" << width - right << "\" y1=\"" << fixed(py(t), 1)
            << "\" y2=\"" << fixed(py(t), 1) << "\"/><text x=\"" << left - 6 << "\" y=\"" << fixed(py(t) + 4, 1)
            << "\" text-anchor=\"end\">" << tick_text(chart.log_y ? std::pow(10, t) : t) << "</text>";
    for (const double t : ticks_of(x0, x1, chart.log_x))
        svg << "<line class=\"grid-line\" y1=\"" << top << "\" y2=\"" << height - bottom << "\" x1=\""
            << fixed(px(t), 1) << "\" x2=\"" << fixed(px(t), 1) << "\"/><text x=\"" << fixed(px(t), 1) << "\" y=\""
            << height - bottom + 16 << "\" text-anchor=\"middle\">" << tick_text(chart.log_x ? std::pow(10, t) : t)
            << "</text>";
    svg << "<line class=\"axis\" x1=\"" << left << "\" x2=\"" << width - right << "\" y1=\"" << height - bottom
        << "\" y2=\"" << height - bottom << "\"/>"
        << "<text x=\"" << (left + width - right) / 2 << "\" y=\"" << height - 8 << "\" text-anchor=\"middle\">"
        << escape(chart.x_label) << "</text>"
        << "<text transform=\"translate(13 " << (top + height - bottom) / 2 << ") rotate(-90)\" text-anchor=\"middle\">"
        << escape(chart.y_label) << "</text>";
    for (const Series& s : chart.series) {
        for (std::size_t i = 0; i < s.points.size(); ++i) {
            const std::pair low(s.points[i].first, s.points[i].second - spread(s, i)),
                high(low.first, s.points[i].second + spread(s, i));
            if (spread(s, i) == 0 || !drawn(low) || !drawn(high)) continue;
            const double x = px(scaled(low).first), bottom_end = py(scaled(low).second),
                         top_end = py(scaled(high).second);
            svg << "<path fill=\"none\" class=\"line" << s.colour % 6 << "\" d=\"M" << fixed(x, 1) << ' '
                << fixed(bottom_end, 1) << 'V' << fixed(top_end, 1) << 'M' << fixed(x - 4, 1) << ' '
                << fixed(bottom_end, 1) << "h8M" << fixed(x - 4, 1) << ' ' << fixed(top_end, 1) << "h8\"/>";
        }
        if (s.points.size() == 1 && drawn(s.points[0])) {  // a line of one point shows nothing
            const auto [x, y] = scaled(s.points[0]);
            svg << "<circle class=\"mark" << s.colour % 6 << "\" r=\"3\" cx=\"" << fixed(px(x), 1) << "\" cy=\""
                << fixed(py(y), 1) << "\"/>";
            continue;
        }
        svg << "<polyline fill=\"none\" class=\"line" << s.colour % 6 << "\" stroke-width=\"" << (s.faint ? 1 : 2)
            << "\" stroke-linejoin=\"round\" opacity=\"" << (s.faint ? 0.25 : 0.95) << "\" points=\"";
        for (const auto& point : s.points) {
            if (!drawn(point)) continue;
            const auto [x, y] = scaled(point);
            svg << fixed(px(x), 1) << ',' << fixed(py(y), 1) << ' ';
        }
        svg << "\"/>";
    }
    // the legend stands in a row of its own, so that it hides no curve
    std::set<std::string> named;
    double x = left;
    for (const Series& s : chart.series) {
        if (s.faint || s.name.empty() || !named.insert(s.name).second) continue;
        if (x + 17 + 7 * static_cast<double>(s.name.size()) > width && x > left) {  // no room for more names
            svg << "<text x=\"" << x << "\" y=\"40\">...</text>";
            break;
        }
        svg << "<rect x=\"" << x << "\" y=\"34\" width=\"12\" height=\"4\" class=\"mark" << s.colour % 6
            << "\"/><text x=\"" << x + 17 << "\" y=\"40\">" << escape(s.name) << "</text>";
        x += 36 + 7 * static_cast<double>(s.name.size());
    }
    svg << "</svg>";
    return svg.str();
}

/// Colours of a scheme.
struct Palette {
    const char *page, *card, *text, *soft, *line;
    const char* series[6];
};
constexpr Palette light{"#fbfbf9", "#fff",    "#1d1f23",
                        "#6a6f78", "#d9dade", {"#0b6bb5", "#d9541e", "#1c8a5f", "#a23b8f", "#b58900", "#4a5568"}},
    dark{"#15171b", "#1c1f25", "#e7e8ea",
         "#9aa0aa", "#343842", {"#58a8e8", "#ff8a5c", "#4fc796", "#dc86cc", "#e0b93f", "#9fb0c6"}};

/// `rules` of the light scheme, and of the dark one where that is preferred.
template <class Rules>
std::string in_both_schemes(Rules&& rules) {
    return rules(light) + "@media(prefers-color-scheme:dark){" + rules(dark) + "}";
}

}  // namespace

// Colours stand in the rules themselves: many viewers of SVG files know no variables of CSS.
std::string chart_style() {
    return "svg text{font:12px system-ui,sans-serif}svg .title{font-size:14px;font-weight:600}" +
           in_both_schemes([](const Palette& p) {
               std::string rules =
                   concat("svg .page{fill:", p.card, "}svg text{fill:", p.soft, "}svg .title{fill:", p.text,
                          "}svg .grid-line{stroke:", p.line, "}svg .axis{stroke:", p.soft, "}");
               for (int i = 0; i < 6; ++i)
                   rules +=
                       concat("svg .line", i, "{stroke:", p.series[i], "}svg .mark", i, "{fill:", p.series[i], "}");
               return rules;
           });
}

std::string page_colours() {
    return ":root{color-scheme:light dark}" + in_both_schemes([](const Palette& p) {
               std::string rules = concat(":root{--page:", p.page, ";--card:", p.card, ";--text:", p.text,
                                          ";--soft:", p.soft, ";--line:", p.line);
               for (int i = 0; i < 6; ++i) rules += concat(";--series", i, ":", p.series[i]);
               return rules + "}";
           });
}

namespace {
/// What stands first in an SVG file.
std::string file_start() {
    return "<style>:root{color-scheme:light dark}" + chart_style() +
           "</style><rect class=\"page\" width=\"100%\" height=\"100%\"/>";
}
}  // namespace

std::string draw(const Chart& chart) { return draw_with(chart, "", ""); }

std::string draw_file(const Chart& chart) {
    return draw_with(chart, " xmlns=\"http://www.w3.org/2000/svg\" width=\"780\" height=\"480\"", file_start()) + "\n";
}

std::string draw_file(const std::vector<Chart>& charts) {
    std::vector<const Chart*> some;
    for (const Chart& c : charts)
        if (!draw(c).empty()) some.push_back(&c);
    if (some.empty()) return "";
    if (some.size() == 1) return draw_file(*some[0]);
    const std::size_t columns = some.size() == 2 || some.size() == 4 ? 2 : 3,
                      rows = (some.size() + columns - 1) / columns;
    std::ostringstream svg;
    svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << columns * width << "\" height=\"" << rows * height
        << "\">" << file_start();
    for (std::size_t i = 0; i < some.size(); ++i)
        svg << draw_with(*some[i],
                         " x=\"" + std::to_string(i % columns * width) + "\" y=\"" +
                             std::to_string(i / columns * height) + "\" width=\"" + std::to_string(width) +
                             "\" height=\"" + std::to_string(height) + "\"",
                         "");
    svg << "</svg>\n";
    return svg.str();
}

}  // namespace bf::program
